"""Figures in notebooks: one that a cell ends with shows itself there.

matplotlib's own do so only once pyplot has been imported. IPython asks for one image of an object, so that
none is shown twice.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that a notebook shows as a PNG image."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook or of a program that shows images alike."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def show(figure: Figure) -> None:
    """Show a figure in the cell that is running."""
    from IPython.display import display

    display(figure)
