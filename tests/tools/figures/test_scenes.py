"""Grids of pictures: which snapshots, in which order, and how the last one is marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from simscaleai.tools.figures.rollout import RolloutFrame
from simscaleai.tools.figures.scenes import GRID, SHEET, contact_sheet, evenly_spaced, plot_env
from simscaleai.tools.figures.style import GREEN, RED


def title(axes: Any) -> str:
    return axes.get_title(loc="left")


def border(axes: Any) -> Any:
    return {spine.get_edgecolor() for spine in axes.spines.values() if spine.get_visible()}


def test_a_whole_episode() -> None:
    figure = plot_env("reach", size=24)
    last = figure.axes[-1]
    steps = int(figure.get_suptitle().split("success after ")[1].split()[0])
    assert (
        figure.get_suptitle()
        == f"reach, expert: success after {steps} steps ({0.05 * steps:.3g} s)\n“reach the green target”"
    )
    assert len(figure.axes) == min(steps + 1, GRID)
    assert title(figure.axes[0]) == "0.00 s" and title(last) == f"{0.05 * steps:.2f} s: success"
    assert border(last) == {to_rgba(GREEN)} and border(figure.axes[0]) == set()
    images = [axes.images[0].get_array() for axes in figure.axes]
    assert all(p.shape == (24, 24, 3) and p.std() > 10 for p in images)


def test_the_first_steps_alone() -> None:
    figure = plot_env("reach", 3, "random", size=24, randomize="light", camera="front_cam")
    title_of_figure = "reach, random policy, randomized (light): 3 steps (0.15 s)"
    assert figure.get_suptitle().splitlines()[0] == title_of_figure
    assert [title(axes) for axes in figure.axes] == ["0.00 s", "0.05 s", "0.10 s", "0.15 s"]
    assert border(figure.axes[-1]) == set()


def test_a_contact_sheet() -> None:
    """Episode 0 succeeds at step 20; episode 1 is stopped at step 3 and fails."""
    ends = np.array([20, 3])
    snapshots = []
    for step in range(21):
        steps = np.minimum(step, ends)
        images = np.zeros((2, 4, 6, 3), np.uint8) + steps[:, None, None, None].astype(np.uint8)
        over = step >= ends
        snapshots.append(RolloutFrame(images, steps, over, over & [True, False]))
    figure = contact_sheet(snapshots, 0.1, "two")
    assert figure.get_suptitle() == "two"
    shown = [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes]
    assert shown == [0, 4, 8, 12, 16, 20, 0, 1, 2, 3]
    assert [title(axes) for axes in figure.axes][SHEET - 1 :: 4] == [
        "2.00 s: success",
        "0.30 s: failed",
    ]
    assert border(figure.axes[5]) == {to_rgba(GREEN)} and border(figure.axes[9]) == {to_rgba(RED)}
    assert [axes.get_ylabel() for axes in figure.axes][::6] == ["episode 0", "episode 1"]


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(1, 5, [0]), (3, 5, [0, 1, 2]), (11, 3, [0, 5, 10]), (30, 4, [0, 10, 19, 29])],
)
def test_spread(count: int, most: int, expected: list[int]) -> None:
    assert evenly_spaced(count, most) == expected
