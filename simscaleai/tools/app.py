"""The Typer application: exit codes and messages of errors, common options, and examples in help texts."""

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
    """Print a line; control characters in names are escaped."""
    typer.echo(printable(text), err=err)


class Group(TyperGroup):
    """Group of commands that end with one sentence and exit code 2 after a mistake of the user.

    Every command also has the group's option `--import`.
    """

    def __init__(self, **settings: Any) -> None:  # those of TyperGroup
        super().__init__(**settings)
        shared = [option for option in self.params if IMPORT in option.opts]
        for command in self.commands.values():
            inner = command.commands.values() if isinstance(command, TyperGroup) else [command]
            for each in inner:  # of a group such as `data`, its commands take the option
                each.params += shared

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # its name is private
        try:
            return super().invoke(ctx)
        except UserError as error:
            message = str(error)
        except typer.TyperException as error:  # an unknown command, option or argument
            command = getattr(error, "ctx", None) or ctx
            message = f"{error.format_message().rstrip('.')}; see {command.command_path} --help."
        except (OSError, MemoryError, RuntimeError, ValueError) as error:
            if (found := _limit(error)) is None:
                raise  # a defect: the traceback is needed
            message = found
        except KeyboardInterrupt as stop:  # the message may say how to resume
            echo(str(stop) or "Stopped.", err=True)
            raise typer.Exit(130) from None
        echo(f"Error: {' '.join(message.splitlines())}", err=True)
        raise typer.Exit(2)


def _limit(error: Exception) -> str | None:
    """Return a sentence about an error caused by a limit of the machine; None for any other error."""
    if out_of_memory(error):
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        return (
            f"There is not enough memory ({reason}); use fewer environments or workers, smaller images,"
            " a smaller batch or a smaller model."
        )
    place = getattr(error, "filename", None)  # of an OSError
    if (full := cannot_write(error, place or "a file")) is not None:
        return str(full)
    if isinstance(error, OSError) and place is not None:
        return f"{place}: {error.strerror}."
    return None


class RandomizeCommand(TyperCommand):
    """Command whose option `--randomize` may be given without a level, which means `default`."""

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
    """Return the epilog of a command's help text, with one line per example."""
    return "\n\n".join(["[bold]Examples[/bold]", *commands])
