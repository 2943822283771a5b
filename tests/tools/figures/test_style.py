"""Where figures go, and what is said where they cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v3 as iio
import matplotlib
import pytest
from matplotlib.figure import Figure

from simscaleai.errors import UserError
from simscaleai.tools.figures.style import check_target, new_figure, save_or_show, styled


def figure() -> Figure:
    made = new_figure(2.0, 1.0, "title")
    made.subplots().plot([0, 1])
    return made


def test_a_figure_is_written_into_a_new_folder_and_over_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    for _ in range(2):
        save_or_show(figure(), path)
        assert iio.imread(path).shape == (120, 240, 4)  # 120 dots per inch
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "start"), [("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("A.PNG", b"\x89PNG")]
)
def test_the_ending_says_the_format(name: str, start: bytes, tmp_path: Path) -> None:
    save_or_show(figure(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_without_an_ending_it_is_png(tmp_path: Path) -> None:
    assert check_target(tmp_path / "a") == tmp_path / "a.png"


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"saved as '\.doc'; it may be .*pdf.*png"):
        check_target("a.doc")
    with pytest.raises(UserError, match="is a folder"):
        check_target(tmp_path)


def test_without_a_display_it_names_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    with pytest.raises(UserError, match=r"no display.*--save"):
        save_or_show(figure())


def test_with_a_display_a_window_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    shown: list[list[int]] = []
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "TkAgg")
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    save_or_show(figure())
    assert len(shown) == 1 and len(shown[0]) == 1
    pyplot.close("all")


def test_figures_are_not_kept(tmp_path: Path) -> None:
    from matplotlib import pyplot

    save_or_show(figure(), tmp_path / "a.png")
    assert pyplot.get_fignums() == []


def test_the_style_ends_with_the_figure() -> None:
    before = matplotlib.rcParams["axes.grid"]
    assert styled(lambda: matplotlib.rcParams["axes.grid"])() is True
    assert matplotlib.rcParams["axes.grid"] == before


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"simscaleai\[viz\]"):
        check_target("a.png")
