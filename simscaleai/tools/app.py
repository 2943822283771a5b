"""The Typer application: exit codes and messages of errors, common options, and examples in help texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from simscaleai.errors import UserError, printable
from simscaleai.memory import out_of_memory
from simscaleai.storage.disk import cannot_write

RANDOMIZE = "--randomize"
IMPORT = "--import"

# {type as Typer shows it: what the help shows}; of an option that takes no value, nothing
_TYPES = {
    "<int>": "INT",
    "<int range>": "INT",
    "<float>": "NUMBER",
    "<float range>": "NUMBER",
    "<str>": "TEXT",
    "<list[str]>": "TEXT",
    "<path>": "PATH",
    "<bool>": "",
}


def echo(text: str, *, err: bool = False) -> None:
    """Print a line; control characters in names are escaped."""
    typer.echo(printable(text), err=err)


class Group(TyperGroup):
    """Group of commands that end with one sentence and exit code 2 after a mistake of the user.

    Every command also has the group's option `--import`, also those of groups in it.
    """

    def __init__(self, **settings: Any) -> None:  # those of TyperGroup
        super().__init__(**settings)
        shared = [option for option in self.params if IMPORT in option.opts]
        for command in self.commands.values():
            inner = command.commands.values() if isinstance(command, TyperGroup) else [command]
            for each in inner:  # of a group such as `data`, its commands take the option
                each.params += shared

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _show_types(command.get_params(ctx))
        return command

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)
        _show_types(params)
        return params

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # its name is private
        try:
            return super().invoke(ctx)
        except UserError as error:
            command = self.commands.get(ctx.invoked_subcommand or "")
            message = with_flags(str(error), command.params if command is not None else ())
        except typer.TyperException as error:  # an unknown command, option or argument
            place = (getattr(error, "ctx", None) or ctx).command_path
            message = error.format_message().rstrip(".")
            message += (
                f" See {place} --help." if message.endswith("?") else f"; see {place} --help."
            )
        except (OSError, MemoryError, RuntimeError, ValueError) as error:
            if (found := _limit(error)) is None:
                raise  # a defect: the traceback is needed
            message = found
        except KeyboardInterrupt as stop:  # the message may say how to resume
            echo(str(stop) or "Stopped.", err=True)
            raise typer.Exit(130) from None
        echo(f"Error: {' '.join(message.splitlines())}", err=True)
        raise typer.Exit(2)


def _show_types(params: Iterable[object]) -> None:
    """Show the types of options as PATH, INT, ...; an argument's type would only repeat its name."""
    for param in params:
        if isinstance(param, TyperArgument):
            setattr(param, "display_type_rich", lambda ctx: None)  # noqa: B010  # a method to mypy
        elif isinstance(param, TyperOption) and param.metavar is None:
            param.metavar = _TYPES.get(param.display_type(None))  # type: ignore[arg-type]


def with_flags(message: str, params: Iterable[Any]) -> str:
    """Return an error's sentence with the flags of a command in place of the names of settings.

    Errors name settings as Python does: for `env_name`, who typed `--env-name` would look in vain. Commands
    that take KEY=VALUE use both.
    """
    flags = {param.name: param.opts[0] for param in params if param.opts[0].startswith("--")}
    if any(param.metavar == "KEY=VALUE" and param.name not in flags for param in params):
        return message
    names = "|".join(sorted(name for name in flags if "_" in name))
    # not in quotes, dotted names or paths
    return (
        re.sub(rf"(?<![\w.'\"/`-])({names})(?![\w.'\"/`-])", lambda m: flags[m[1]], message)
        if names
        else message
    )


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
    if isinstance(error, PermissionError) and place is not None:
        return (
            f"{place}: {error.strerror}; choose another place, or change who may read and write it."
        )
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
