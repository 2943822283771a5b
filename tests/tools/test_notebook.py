"""In a notebook figures show themselves, once, and long work has a bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simscaleai.tools.figures import style

MAKE = """
from simscaleai.datagen import generate_dataset
generate_dataset("reach", 4, "d.h5", policy_type="scripted", max_steps=20, workers={workers})
"""
TRAIN = """
from simscaleai.training import TrainConfig
from simscaleai.training.training_run import train_policy
train_policy(TrainConfig(dataset_path="d.h5", max_steps=3, device="cpu"))
"""
IMPORT = "from simscaleai.tools.visualize import plot_dataset, save_or_show"
CELLS = [
    MAKE.format(workers=1),
    MAKE.format(workers=2).replace("d.h5", "e.h5"),
    TRAIN,
    f"{IMPORT}\nplot_dataset('d.h5')",
    "save_or_show(plot_dataset('d.h5'))",
    "import matplotlib.pyplot\nplot_dataset('d.h5')",
    "save_or_show(plot_dataset('d.h5'))",
    "save_or_show(plot_dataset('d.h5'), 'd.png')",
]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What each cell shows, as kinds of content."""
    for name in ("nbclient", "ipykernel", "ipywidgets", "matplotlib"):
        pytest.importorskip(name)
    import nbclient
    import nbformat

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    folder = tmp_path_factory.mktemp("notebook")
    done: Any = nbclient.NotebookClient(
        book, timeout=120, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [
        [kind for output in cell.outputs for kind in output.get("data", {output.output_type: 0})]
        for cell in done.cells
    ]


@pytest.mark.slow
def test_figures_show_themselves_once(kinds: list[list[str]]) -> None:
    assert [shown.count("image/png") for shown in kinds[3:]] == [1, 1, 1, 1, 0]


@pytest.mark.slow
def test_long_work_has_a_bar(kinds: list[list[str]]) -> None:
    for shown in kinds[:3]:
        assert "application/vnd.jupyter.widget-view+json" in shown
        assert "stream" not in shown  # no warning, no line instead


def test_a_figure_is_its_picture() -> None:
    pytest.importorskip("matplotlib")
    figure: Any = style.new_figure(2, 1, "Title")
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_shown_in_the_cell_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without IPython: what is asked of it."""
    pytest.importorskip("matplotlib")
    from simscaleai.tools.figures import notebook

    shown: list[Any] = []
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    monkeypatch.setattr(notebook, "show", shown.append)
    figure = style.new_figure(2, 1)
    style.save_or_show(figure)
    style.save_or_show(figure, tmp_path / "a.png")
    assert shown == [figure]
