"""Check whether progress bars can be drawn."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console


def can_draw(console: Console) -> bool:
    """Return whether a progress bar can be drawn: on a terminal, or in a notebook with `ipywidgets`."""
    # Without ipywidgets, rich would print a new bar below the old one at every refresh.
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
