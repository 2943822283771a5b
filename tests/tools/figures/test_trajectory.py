"""One episode over time: the lines are the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.figures.trajectory import IMAGES, plot_trajectory


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def lines(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line.get_ydata() for line in axes.lines}


def test_lines_are_the_data(dataset: Path) -> None:
    found = panels(plot_trajectory(dataset, 1))
    with open_dataset(dataset) as data:
        arrays = {key: data.read(1, key) for key in data.keys(1)}
    units = {name: axes.get_ylabel() for name, axes in found.items()}
    assert units == {
        **{f"Position, {axis}": "m" for axis in "xyz"},
        "Distance of the fingers": "m",
        "Joint positions": "rad",
        "Joint velocities": "rad/s",
        "Orientation of the object": "quaternion",
        "Action": "fraction of its range",
        "Reward": "reward of the step",
    }
    for i, axis in enumerate("xyz"):
        shown = lines(found[f"Position, {axis}"])
        assert set(shown) == {"hand", "object", "target"}
        for name, key in (("hand", "ee_pos"), ("object", "object_pos"), ("target", "target_pos")):
            np.testing.assert_array_equal(shown[name], arrays[f"obs/{key}"][:, i])
    for i, name in enumerate(("Δx", "Δy", "Δz", "gripper")):
        np.testing.assert_array_equal(lines(found["Action"])[name], arrays["actions"][:, i])
    for i in range(7):
        joint = lines(found["Joint positions"])[str(i + 1)]
        np.testing.assert_array_equal(joint, arrays["obs/joint_pos"][:, i])
    np.testing.assert_array_equal(lines(found["Reward"])["reward"], arrays["rewards"])
    time = found["Reward"].lines[0].get_xdata()
    np.testing.assert_allclose(time, 0.05 * np.arange(len(arrays["actions"])))
    assert found["Reward"].get_xlabel() == "time (s)"


def test_the_title_says_how_it_ended(dataset: Path) -> None:
    with open_dataset(dataset) as data:
        for i, meta in enumerate(data.episodes):
            title = plot_trajectory(dataset, i).get_suptitle()
            how = "success" if meta.success else "failure"
            took = f"{meta.length} steps ({0.05 * meta.length:.3g} s)"
            assert title.startswith(f"pick_place, episode {i}: {how} after {took}\n“")
            assert meta.language in title


def test_a_bonus_at_the_end_does_not_flatten_the_rest(dataset: Path) -> None:
    with open_dataset(dataset) as data:
        won = next(i for i, e in enumerate(data.episodes) if e.success)
        rewards = data.read(won, "rewards")
    reward = panels(plot_trajectory(dataset, won))["Reward"]
    assert rewards[-1] > 15 > reward.get_ylim()[1] > rewards[:-1].max()
    assert f"last step: {rewards[-1]:.3g}" in [text.get_text() for text in reward.texts]


def test_pictures_come_first(tmp_path: Path) -> None:
    """Of a file of another tool, without rewards, over steps."""
    frames = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        group = file.create_group("episode_0")
        group["observations/images/wrist_cam"] = frames
        group["observations/image"] = frames  # the same again
        group["observations/state"] = np.ones((20, 2), dtype=np.float32)
        group["actions"] = np.zeros((20, 3), dtype=np.float32)
    figure = plot_trajectory(tmp_path / "other.h5")
    assert figure.get_suptitle() == "other.h5, episode 0: 20 steps"
    film = [axes for axes in figure.axes if axes.images]
    assert len(film) == IMAGES and film[0].get_ylabel() == "wrist_cam"
    shown = [int(axes.images[0].get_array()[0, 0, 0]) for axes in film]
    assert shown == [int(axes.get_title()) for axes in film]
    assert shown[0] == 0 and shown[-1] == 19
    assert {"state", "Action"} <= set(panels(figure))
    assert figure.axes[-1].get_xlabel() == "step"


@pytest.mark.parametrize("episode", [3, -1])
def test_no_such_episode(dataset: Path, episode: int) -> None:
    with pytest.raises(UserError, match=rf"episode is {episode}; .* has the episodes 0 to 2"):
        plot_trajectory(dataset, episode)
