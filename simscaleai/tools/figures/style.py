"""Style of all figures, and their output to a file, a window or a notebook.

The colors can be distinguished with every kind of color vision (Okabe and Ito, "Color Universal Design",
2008), and a color never carries meaning alone: a line has a legend, an outcome has a word. Figures are
not registered with pyplot before they are shown, so that many figures do not fill memory, and none needs
a display.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from simscaleai.array_types import Array
from simscaleai.errors import UserError
from simscaleai.storage.atomic import atomic_path, require_writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from matplotlib.typing import RcKeyType

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, BLACK, YELLOW = "#CC79A7", "#56B4E9", "#000000", "#F0E442"
GREY = "#6E6E6E"
CYCLE = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK)  # yellow is too faint for lines on white

_STYLE: dict[RcKeyType, object] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a "$" in the name of an observation is no formula
    "savefig.dpi": 120,
    "pdf.fonttype": 42,  # TrueType: text can be selected and searched
}
LETTER, LINE = 0.092, 0.19  # inches, mean width of a letter and height of a line of a title
_MISSING = "Figures need matplotlib; install it with: pip install 'simscaleai[viz]'."

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate `function` to run with this module's style; UserError if the extra `viz` is not installed."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            import matplotlib
            from cycler import cycler
        except ImportError:
            raise UserError(_MISSING) from None
        # a context: figures of the caller keep their own style
        with matplotlib.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=CYCLE)}):
            return function(*args, **kwargs)

    return run


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """Return an empty figure of this size in inches; a title that is too long for it makes it higher."""
    from simscaleai.tools.figures.notebook import NotebookFigure

    given = title.splitlines()
    # paths have no spaces, and break after any letter
    lines = [part for line in given for part in wrap(line, int(width / LETTER))]
    figure = NotebookFigure(figsize=(width, height + LINE * (len(lines) - len(given))))
    if title:
        figure.suptitle("\n".join(lines), x=0.01, ha="left")
    return figure


def split(figure: Figure, heights: tuple[float, float]) -> tuple[SubFigure, SubFigure]:
    """Return the upper and the lower part of a figure, with layouts of their own; heights in inches."""
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)  # (2, 1)
    upper, lower = parts[:, 0]
    return upper, lower


def show_image(
    axes: Axes, pixels: Array, cmap: str | None = None, vmax: float | None = None
) -> AxesImage:
    """Show pixels (H, W) or (H, W, 3) without ticks.

    Args:
      axes: where to draw.
      pixels: colors, or values for the colormap.
      cmap: name of the colormap.
      vmax: value of the last color; the maximum by default.
    """
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():  # an image needs no box; `frame` draws one with a meaning
        spine.set_visible(False)
    return axes.imshow(pixels, cmap=cmap, vmax=vmax)


def frame(axes: Axes, color: str) -> None:
    """Draw a border around an image."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=2.5)


@styled
def check_target(save: str | Path | None) -> Path | None:
    """Return the output file of a figure, or None for a window or the notebook.

    Call it before a long computation. A name without an extension gets ".png".

    Raises:
      UserError: matplotlib cannot write this format, or there is no display for a window.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    from simscaleai.tools.figures.notebook import in_notebook

    if save is None:
        if not in_notebook() and not _has_windows():
            raise UserError(
                "There is no display to open a window on; give a file to write: --save FILE.png."
            )
        return None
    path = Path(save)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the file to write, such as {path}/figure.png.")
    if not path.suffix:
        path = path.with_suffix(".png")
    require_writable(path, "give another file with --save")
    known = FigureCanvasBase.get_supported_filetypes()
    kind = path.suffix[1:].lower()
    if kind not in known:
        raise UserError(
            f"A figure cannot be saved as {path.suffix!r}; it may be {', '.join(sorted(known))}."
        )
    return path


@styled
def save_or_show(figure: Figure, save: str | Path | None = None) -> None:
    """Write a figure to a file, replacing an existing one, or show it in a notebook or a window.

    Args:
      figure: result of a `plot_` function.
      save: the file; its extension selects the format, such as png, pdf or svg. None to show the figure.

    Raises:
      UserError: see `check_target`.
    """
    path = check_target(save)
    if path is None:
        from simscaleai.tools.figures.notebook import in_notebook, show

        if in_notebook():
            show(figure)
            return
        from matplotlib import pyplot

        pyplot.figure(figure)  # registers it, which gives it a window
        pyplot.show()
        return
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())


def _has_windows() -> bool:
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.backends import BackendFilter, backend_registry

    pyplot.get_fignums()  # selects a backend that works here
    interactive = backend_registry.list_builtin(BackendFilter.INTERACTIVE)
    return matplotlib.get_backend().lower() in interactive
