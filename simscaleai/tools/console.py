"""What the commands print: tables on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simscaleai.errors import printable


def table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table; long cells are folded, never cut."""
    shown = Table(title=_plain(title), title_justify="left", title_style="bold")
    for column in columns:
        shown.add_column(_plain(column), overflow="fold")
    for row in rows:
        shown.add_row(*map(_plain, row))
    Console().print(shown)


def _plain(text: str) -> Text:
    """Text of which no part is taken for markup or for a command to the terminal: names come from files."""
    return Text(printable(text))


def results(title: str, values: Mapping[str, Any]) -> None:
    """Print the numbers and words among `values`, one line each; lists and the like are left out."""
    rows = [(key.replace("_", " "), text(key, value)) for key, value in values.items()]
    table(title, ["what", "value"], [row for row in rows if row[1]])


def text(key: str, value: Any) -> str:
    """A value as a person reads it: shares in percent, "" for what is no number or word."""
    if key.endswith(("_rate", "_ci", "_share", "success_at_end")):
        parts = value if isinstance(value, tuple | list) else [value]
        if any(part != part for part in parts):
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
