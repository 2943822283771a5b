"""Episodes before a camera are those that evaluation runs."""

from __future__ import annotations

from contextlib import closing

import mujoco
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation import EvalConfig, evaluate_policy
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.sim import make_vec_env
from simscaleai.sim.scene_cameras import view_of
from simscaleai.tools.figures import rollout
from simscaleai.tools.figures.clear_view import clear_view
from simscaleai.tools.figures.rollout import episode_lengths, find_episodes, record

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


def test_the_episodes_that_evaluation_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expert reaches some targets in 8 steps; each number is the one in the results."""
    source = find_policy_source("scripted", "reach", env_kwargs={"max_episode_steps": 8})
    env = make_vec_env("reach", 8, autoreset_mode="disabled", config=source.config)
    found = evaluate_policy(env, source.policy(env).act, EvalConfig(n_episodes=50, seed=3))
    ended = {True: [], False: []}
    for episode in found["episodes"]:
        ended[episode["success"]].append(episode["index"])
    assert len(ended[True]) >= 2 and len(ended[False]) >= 2  # else this shows nothing
    numbers = find_episodes(source, "failures", 2, seed=3)
    assert numbers == ended[False][:2]
    assert find_episodes(source, "successes", 2, seed=3) == ended[True][:2]
    chosen = [ended[True][1], *numbers]
    lengths = episode_lengths(source, seed=3, episodes=chosen)
    assert lengths.tolist() == [found["episodes"][i]["length"] for i in chosen]
    (first,) = record(source, seed=3, episodes=chosen, size=SIZE, shown=[0], camera="front_cam")
    assert first.numbers == tuple(chosen) and first.first(1).numbers == (chosen[0],)
    alone = next(record(source, seed=3, episodes=chosen[1:2], size=SIZE, camera="front_cam"))
    assert (alone.images[0] == first.images[1]).all()
    monkeypatch.setattr(rollout, "SEARCHED", 50)
    with pytest.raises(UserError, match="The first 50 episodes of seed 3 have no failures"):
        find_episodes(find_policy_source("scripted", "reach"), "failures", 1, seed=3)


def test_the_camera_that_hides_nothing() -> None:
    """`observer_cam` looks at the sky here, so another camera has to be taken."""
    poses = {"observer_cam": [1, 0, 1, 1, 0, 9]}
    with closing(make_vec_env("pick_place", 2, camera_poses=poses)) as env:
        env.reset(seed=0)
        view = clear_view(env, [0], (10, 20))
        assert view.name == "front_cam" and (view.height, view.width) == (10, 20)
    with closing(make_vec_env("pick_place", 2)) as env:
        env.reset(seed=0)
        assert clear_view(env, [0], (10, 20)).name == "observer_cam"
