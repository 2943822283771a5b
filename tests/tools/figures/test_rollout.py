"""Episodes before a camera are those that evaluation runs."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation import EvalConfig, evaluate_policy
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.sim import make_vec_env
from simscaleai.sim.scene_cameras import view_of
from simscaleai.tools.figures.rollout import episode_lengths, record

SIZE = (24, 32)


def test_every_step_is_shown_until_all_are_over() -> None:
    source = find_policy_source("scripted", "reach", "default")
    snapshots = list(record(source, 3, size=SIZE, seed=5))
    end = snapshots[-1]
    env = make_vec_env("reach", 3, autoreset_mode="disabled", domain_randomization=True)
    found = evaluate_policy(env, env.task.expert().act, EvalConfig(n_episodes=3, seed=5))
    assert end.steps.tolist() == [e["length"] for e in found["episodes"]]
    assert end.success.tolist() == [e["success"] for e in found["episodes"]]
    assert end.over.all() and not snapshots[-2].over.all()
    assert len(snapshots) == end.steps.max() + 1
    assert [m.steps.max() for m in snapshots] == list(range(len(snapshots)))
    for snapshot in snapshots:
        assert snapshot.images.shape == (3, *SIZE, 3) and snapshot.images.dtype == np.uint8
        assert snapshot.images.std() > 10
    # things move while an episode runs and stand still after it; looks are each row's own
    shortest = int(end.steps.min())
    row = int(end.steps.argmin())
    assert (snapshots[0].images[row] != snapshots[shortest].images[row]).mean() > 0.01
    assert (snapshots[shortest].images[row] == end.images[row]).all()
    assert (end.images[0] != end.images[1]).mean() > 0.3
    assert end.first(2).steps.tolist() == end.steps[:2].tolist()


def test_only_what_is_shown_is_drawn() -> None:
    source = find_policy_source("random", "reach")
    assert episode_lengths(source, 2, n_steps=4).tolist() == [4, 4]
    snapshots = list(record(source, 2, size=SIZE, n_steps=4, shown=[0, 3]))
    assert [m.steps.tolist() for m in snapshots] == [[0, 0], [3, 3]]
    assert not snapshots[-1].over.any()


def test_what_does_not_fit() -> None:
    source = find_policy_source("random", "reach")
    for given, message in (
        ({"n_episodes": 0}, "n_episodes is 0"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"camera": "observer"}, "Did you mean 'observer_cam'"),
    ):
        with pytest.raises(UserError, match=message):
            next(record(source, **given))


def test_a_scene_without_an_observer_camera_is_seen_by_its_first() -> None:
    scene = "<mujoco><worldbody><camera name='a' fovy='33'/><camera name='b'/></worldbody></mujoco>"
    model = mujoco.MjModel.from_xml_string(scene)
    seen = view_of(model, None, SIZE)
    assert (seen.name, seen.height, seen.width, seen.fov) == ("a", *SIZE, 33)
    empty = mujoco.MjModel.from_xml_string("<mujoco/>")
    with pytest.raises(UserError, match="known: none"):
        view_of(empty, None, SIZE)
