"""Tables that commands print on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simscaleai.errors import printable

_DIGITS = 12  # of a hash: enough to tell two files apart
# The recorded names are those of other libraries, in which the sum of an episode's rewards is "reward".
_LABELS = {
    "mean_reward": "mean return",
    "std_reward": "standard deviation of returns",
    "min_reward": "smallest return",
    "max_reward": "largest return",
    "success_ci": "95 % interval of the success rate",
    "success_at_end": "success at the last step",
    "diverged": "episodes with unstable physics",
}


def table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table; long cells are wrapped, never truncated."""
    printed = Table(title=_plain(title), title_justify="left", title_style="bold")
    for column in columns:
        printed.add_column(_plain(column), overflow="fold")
    for row in rows:
        printed.add_row(*map(_plain, row))
    Console().print(printed)


def _plain(text: str) -> Text:
    """Return text without markup and control characters, as names come from untrusted files."""
    return Text(printable(text))


def label(key: str) -> str:
    """Return the name of a value for a reader; results in files and in Python keep their own names."""
    prefix = "eval " if key.startswith("eval_") else ""
    name = key.removeprefix("eval_")
    return prefix + _LABELS.get(name, name.replace("_", " "))


def finish(seconds: float, *commands: str) -> None:
    """Print how long a command took, and the commands that come next."""
    typer.echo(f"Took {duration(seconds)}.")
    for command in commands:
        typer.echo(printable(f"Next: {command}"))


def duration(seconds: float) -> str:
    """Return a duration as a person says it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def results(title: str, values: Mapping[str, object]) -> None:
    """Print the numbers and texts among `values`, one line each, without lists and other containers."""
    rows = [(label(key), text(key, value)) for key, value in values.items()]
    table(title, ["what", "value"], [row for row in rows if row[1]])


def text(key: str, value: object) -> str:
    """Return a value for a reader: fractions in percent, and "" for values other than numbers and texts."""
    if key.endswith(("_rate", "_ci", "_share", "success_at_end")):
        # a rate, or the two ends of its interval
        parts: Sequence[float] = value if isinstance(value, tuple | list) else [cast(float, value)]
        if any(part != part for part in parts):  # NaN: the environment reports no success
            return "not reported"
        return " to ".join(f"{100 * part:.1f} %" for part in parts)
    if key.endswith("_sha256") and isinstance(value, str):
        return value[:_DIGITS]  # all 64 are in the file of the results
    if key.endswith("_per_second"):
        return f"{value:,.0f}"
    if key == "output_path" and value is None:
        return "not saved"
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {text('', part)}" for name, part in value.items())
    return str(value) if isinstance(value, str | int) else ""
