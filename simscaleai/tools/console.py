"""Tables that commands print on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simscaleai.errors import printable


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


def results(title: str, values: Mapping[str, object]) -> None:
    """Print the numbers and texts among `values`, one line each, without lists and other containers."""
    rows = [(key.replace("_", " "), text(key, value)) for key, value in values.items()]
    table(title, ["what", "value"], [row for row in rows if row[1]])


def text(key: str, value: object) -> str:
    """Return a value for a reader: fractions in percent, and "" for values other than numbers and texts."""
    if key.endswith(("_rate", "_ci", "_share", "success_at_end")):
        # a rate, or the two ends of its interval
        parts: Sequence[float] = value if isinstance(value, tuple | list) else [cast(float, value)]
        if any(part != part for part in parts):  # NaN: the environment reports no success
            return "not reported"
        return " to ".join(f"{100 * part:.1f} %" for part in parts)
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
