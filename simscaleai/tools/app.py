"""The Typer application: how commands end when a user made a mistake, and how they show examples."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from simscaleai.errors import UserError, printable
from simscaleai.memory import out_of_memory
from simscaleai.storage.disk import cannot_write

RANDOMIZE = "--randomize"
IMPORT = "--import"


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, with the control characters of names in it written out."""
    typer.echo(printable(text), err=err)


class Group(TyperGroup):
    """Ends a command with one sentence and exit code 2 where the user made a mistake.

    Its option `--import` is one of every command, too.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        shared = [option for option in self.params if IMPORT in option.opts]
        for command in self.commands.values():
            inner = command.commands.values() if isinstance(command, TyperGroup) else [command]
            for each in inner:  # of a group such as `data`, its commands take the option
                each.params += shared

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            message = str(error)
        except typer.TyperException as error:  # a wrong command or option
            command = getattr(error, "ctx", None) or ctx
            message = f"{error.format_message().rstrip('.')}; see {command.command_path} --help."
        except (OSError, MemoryError, RuntimeError, ValueError) as error:
            if (found := _limit(error)) is None:
                raise
            message = found
        except KeyboardInterrupt as stop:  # the message may say how to resume
            echo(str(stop) or "Stopped.", err=True)
            raise typer.Exit(130) from None
        echo(f"Error: {' '.join(message.splitlines())}", err=True)
        raise typer.Exit(2)


def _limit(error: Exception) -> str | None:
    """What to say of an error that comes from the machine's limits, not from a defect; else None."""
    if out_of_memory(error):
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        return (
            f"There is not enough memory ({reason}); use fewer environments or workers, smaller images,"
            " a smaller batch or a smaller model."
        )
    place = getattr(error, "filename", None)
    if (full := cannot_write(error, place or "a file")) is not None:
        return str(full)
    if isinstance(error, OSError) and place is not None:
        return f"{place}: {error.strerror}."
    return None


class RandomizeCommand(TyperCommand):
    """Lets `--randomize` stand without a level, which then is `default`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for i, word in enumerate(args):
            if word == RANDOMIZE and (i + 1 == len(args) or args[i + 1].startswith("-")):
                args = [*args[: i + 1], "default", *args[i + 1 :]]
                break
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="simscale",
    cls=Group,
    help="Simulate a robot arm, generate demonstrations, train policies, evaluate them in closed loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)


def examples(*commands: str) -> str:
    """The epilog of a command's help: one line for each example."""
    return "\n\n".join(["[bold]Examples[/bold]", *commands])
