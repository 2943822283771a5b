"""Show figures in notebooks: a figure that is the last value of a cell appears below the cell.

matplotlib's own figures do so only after pyplot has been imported. IPython shows one representation of an
object, so no figure appears twice.
"""

from __future__ import annotations

import io
import sys

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """Figure that a notebook shows as a PNG image."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook or of another program that shows images."""
    # a kernel has imported IPython already; importing it here would be slow
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def show(figure: Figure) -> None:
    """Show a figure below the running cell."""
    from IPython.display import display

    display(figure)
