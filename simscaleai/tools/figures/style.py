"""How all figures look, and where they go: into a file, or into a window.

Colors are distinct for every color vision (Okabe and Ito, "Color Universal Design", 2008), and never carry
a meaning alone: a line has its legend, a success its word. Figures do not belong to pyplot until one is to
be shown, so making many does not fill memory, and none needs a display.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from simscaleai.errors import UserError
from simscaleai.storage.atomic import atomic_path, require_writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, BLACK, YELLOW = "#CC79A7", "#56B4E9", "#000000", "#F0E442"
GREY = "#6E6E6E"
CYCLE = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK)  # yellow is too faint for lines on white

_STYLE: dict[Any, Any] = {
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
    "text.parse_math": False,  # names of observations may have dollars in them
    "savefig.dpi": 120,
    "pdf.fonttype": 42,  # text stays text
}
_MISSING = "Figures need matplotlib; install it with: pip install 'simscaleai[viz]'."

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` with this module's style; UserError if the extra `viz` is not installed."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            import matplotlib
            from cycler import cycler
        except ImportError:
            raise UserError(_MISSING) from None
        with matplotlib.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=CYCLE)}):
            return function(*args, **kwargs)

    return run


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure, inches."""
    from simscaleai.tools.figures.notebook import NotebookFigure

    figure = NotebookFigure(figsize=(width, height))
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def split(figure: Figure, heights: tuple[float, float]) -> tuple[SubFigure, SubFigure]:
    """The upper and the lower part of a figure, laid out apart; their heights in inches."""
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    return parts[0], parts[1]


def show_image(axes: Axes, pixels: Any, **options: Any) -> Any:
    """Show pixels (H, W) or (H, W, 3) without ticks."""
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes.imshow(pixels, **options)


def frame(axes: Axes, color: str) -> None:
    """Draw a border around an image."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=2.5)


@styled
def check_target(save: str | Path | None) -> Path | None:
    """The file that a figure will go to, or None for a window or the notebook.

    Ask before the work begins. A name without an ending gets ".png".

    Raises:
      UserError: matplotlib cannot write this kind of file, or there is no display to open a window on.
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
    """Write a figure, replacing the file if there is one, or show it, in a notebook or a window.

    Args:
      figure: made by one of the functions here.
      save: the file; its ending says the format, png, pdf or svg among others. None shows it.

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

        pyplot.figure(figure)
        pyplot.show()
        return
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())


def _has_windows() -> bool:
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.backends import BackendFilter, backend_registry

    pyplot.get_fignums()  # chooses a backend that works here
    interactive = backend_registry.list_builtin(BackendFilter.INTERACTIVE)
    return matplotlib.get_backend().lower() in interactive
