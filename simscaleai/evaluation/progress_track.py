"""A progress bar on stderr, where one can be drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from simscaleai.terminal import can_draw

T = TypeVar("T")


def tracked(items: Iterable[T], title: str, total: int, show: bool = True) -> Iterable[T]:
    """Return the same items, with a progress bar while they are gone through."""
    console = Console(stderr=True)
    # a notebook without its widgets would get a line for every item
    hidden = not show or (console.is_jupyter and not can_draw(console))
    return track(items, title, total=total, console=console, disable=hidden)
