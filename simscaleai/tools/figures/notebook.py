"""Figures in notebooks: one that a cell ends with shows itself there.

matplotlib's own do so only once pyplot has been imported. IPython asks for one picture of an object, so that
none is shown twice.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that is its picture where a notebook shows it."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, or of what shows pictures as one does."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def show(figure: Figure) -> None:
    """Show a figure in the cell that is running."""
    from IPython.display import display

    display(figure)
