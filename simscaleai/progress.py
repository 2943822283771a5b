"""Where a bar can be drawn while something long goes on."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console


def can_draw(console: Console) -> bool:
    """Whether a progress bar can be drawn: on a terminal, or in a notebook with `ipywidgets`."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
