"""A dataset as histograms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.figures.dataset_figure import plot_dataset


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def heights(axes: Any) -> float:
    return sum(patch.get_height() for patch in axes.patches)


def test_every_episode_and_step_is_counted(dataset: Path) -> None:
    with open_dataset(dataset) as data:
        successes = [bool(e.success) for e in data.episodes]
        steps = sum(e.length for e in data.episodes)
    assert sorted(set(successes)) == [False, True]  # the fixture has both kinds
    figure = plot_dataset(dataset)
    title = figure.get_suptitle()
    assert title == (
        f"pick_place: 3 episodes, {steps} steps, {100 * np.mean(successes):.1f} % successful"
    )
    found = panels(figure)
    actions = ["Action: Δx", "Action: Δy", "Action: Δz", "Action: gripper"]
    assert list(found) == ["Length", "Return", "Reward", *actions]
    # what succeeded and what failed are stacked; every episode is in one bar
    assert found["Length"].get_legend() is not None
    assert heights(found["Length"]) == heights(found["Return"]) == 3
    for name in ("Reward", *actions):
        assert heights(found[name]) == pytest.approx(100)
        assert found[name].get_xlabel()


def test_the_gripper_opens_and_closes(dataset: Path) -> None:
    with open_dataset(dataset) as data:
        actions = np.concatenate([data.read(i, "actions") for i in range(len(data))])
    bars = panels(plot_dataset(dataset))["Action: gripper"].patches
    assert bars[0].get_height() == pytest.approx(100 * (actions[:, 3] < -0.9).mean())
    assert bars[-1].get_height() == pytest.approx(100 * (actions[:, 3] > 0.9).mean())


def test_a_file_of_another_tool(tmp_path: Path) -> None:
    """No contract, no rewards, no success, seven actions beyond [-1, 1]."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for i in range(2):
            group = file.create_group(f"episode_{i}")
            group["observations/state"] = np.zeros((4, 2), dtype=np.float32)
            group["actions"] = np.full((4, 7), 3.0, dtype=np.float32)
    figure = plot_dataset(tmp_path / "other.h5")
    assert figure.get_suptitle() == "other.h5: 2 episodes, 8 steps"
    found = panels(figure)
    assert list(found) == ["Length", *(f"Action, entry {i}" for i in range(7))]
    assert found["Action, entry 6"].get_xlim()[1] > 3.0


def test_no_such_file() -> None:
    with pytest.raises(UserError, match=r"nope\.h5 does not exist"):
        plot_dataset("nope.h5")


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e38])
def test_what_has_no_place_on_an_axis_is_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((5, 4), "f4")
        file["data/demo_0/rewards"] = np.full(5, value, "f4")
    with pytest.raises(UserError, match=r"rewards has values .* run `simscale validate` on it"):
        plot_dataset(path)
