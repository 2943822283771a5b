"""What both tasks with colored things promise: the sentence alone says which one is meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simscaleai import seeding
from simscaleai.errors import UserError
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.tasks.colors import COLORS, spread

NAMES = ["reach_color", "pick_place_color"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def rows(name: str, n: int, **settings: Any) -> Any:
    return make_vec_env(name, n, dt=0.005, autoreset_mode="disabled", **settings)


def mentioned(sentence: str) -> list[str]:
    return [color for color in COLORS if color in sentence.split()]


def test_things_lie_apart_in_any_order() -> None:
    u = seeding.generator(0, "test").random((3000, 12))
    low, high = np.array([0.4, -0.2]), np.array([0.6, 0.2])
    places = spread(u, low, high, 0.11)
    assert places.shape == (3000, 4, 2)
    assert (places >= low).all() and (places <= high).all()
    apart = np.diff(np.sort(places[:, :, 1], axis=1), axis=1)
    assert apart.min() >= 0.11 - 1e-12
    first = np.argmin(places[:, :, 1], axis=1)  # which of the four lies furthest to the right
    assert (np.bincount(first) > 650).all()


def test_every_color_is_wanted_equally_often(name: str) -> None:
    envs = rows(name, 1000)
    _, info = envs.reset(seed=0)
    counts = np.bincount(info["wanted"], minlength=3)
    assert counts.sum() == 1000 and (np.abs(counts - 333) < 50).all()


def test_the_instruction_names_the_wanted_color_alone(name: str) -> None:
    envs = rows(name, 60)
    _, info = envs.reset(seed=0)
    heard: dict[str, set[str]] = {}
    for phrasings in ("train", "held_out"):
        envs.task.use_phrasings(phrasings)
        told = [envs.instruction(row) for row in range(60)]
        assert [mentioned(t) for t in told] == [[COLORS[w]] for w in info["wanted"]]
        heard[phrasings] = {t.replace(mentioned(t)[0], "{color}") for t in told}
    task = envs.task
    assert heard == {"train": set(task.instructions), "held_out": set(task.held_out)}
    assert not heard["train"] & heard["held_out"]
    # only words that training data has too, but for courtesies
    known = set(" ".join(task.instructions).split())
    assert len(set(" ".join(task.held_out).split()) - known) <= 5


def test_a_single_environment_is_told_what_its_row_is(name: str) -> None:
    envs, env = rows(name, 4), make_env(name, cameras=[], dt=0.005)
    for _ in range(2):  # the first and the second episode of a seed
        seed = 5 if envs.core.seeds is None else None
        envs.reset(seed=seed)
        env.reset(seed=None if seed is None else 7)
        assert env.instruction() == envs.instruction(2)


def test_nothing_that_is_observed_tells_which_one_is_wanted(name: str) -> None:
    env = make_env(name, cameras=[], dt=0.005)
    env.reset(seed=0)
    seen = []
    for choice in range(3):
        env.sim.mocap_pos[:, env.task._latent_id, 0] = choice
        env._forward()
        seen.append(env.task.observe(env.sim))
        assert int(env.task.info(env.sim)["wanted"][0]) == choice
        assert mentioned(env.instruction()) == [COLORS[choice]]
    for obs in seen[1:]:
        for key, value in seen[0].items():
            np.testing.assert_array_equal(obs[key], value)
    body = env.model.body("latent")  # nor does a picture: it has no shape
    assert body.geomnum == 0 and env.model.site_bodyid.tolist().count(body.id) == 0


def test_the_wanted_color_is_restored_with_the_state(name: str) -> None:
    envs, other = rows(name, 6), rows(name, 6)
    _, info = envs.reset(seed=0)
    other.reset(seed=50)
    assert other.task.latent().tolist() != info["wanted"].tolist()
    other.sim.load_states(envs.states())
    assert other.task.latent().tolist() == info["wanted"].tolist()
    other.reset(seed=50)
    other.set_state(envs.get_state())
    assert [other.instruction(i) for i in range(6)] == [envs.instruction(i) for i in range(6)]


def test_the_expert_does_the_opposite_thing_for_another_color(name: str) -> None:
    envs = rows(name, 3)
    obs, _ = envs.reset(seed=[1, 1, 1])
    envs.sim.mocap_pos[:, envs.task._latent_id, 0] = (0, 1, 2)
    actions = envs.task.expert().act(obs)
    assert len({tuple(action) for action in actions}) == 3


def test_phrasings_name_every_color(name: str) -> None:
    task = rows(name, 1).task
    for which, sentences in (("train", task.instructions), ("held_out", task.held_out)):
        found = task.phrasings(which)
        assert list(found) == list(COLORS) == list(task.categories)
        assert all(mentioned(s) == [color] for color in COLORS for s in found[color])
        assert [len(found[color]) for color in COLORS] == [len(sentences)] * 3
    with pytest.raises(UserError, match="choice of phrasings"):
        task.phrasings("other")


def test_a_wrong_one_first_is_no_success(name: str) -> None:
    envs = rows(name, 9)
    obs, info = envs.reset(seed=0)
    right = info["wanted"].copy()
    expert = envs.task.expert()
    choice = envs.sim.mocap_pos[:, envs.task._latent_id, 0]
    taken = np.zeros(9, bool)
    for _ in range(40):  # the expert is told another one until it has that
        choice[:] = np.where(taken, right, (right + 1) % 3)
        action = expert.act(obs)
        choice[:] = right
        obs, *_, info = envs.step(action)
        taken |= info["wrong"]
    assert taken.all() and info["wrong"].all()
    if name == "pick_place_color":  # let go of it
        envs.step(np.tile([0.0, 0.0, 0.2, 1.0], (9, 1)))
    for _ in range(60):
        obs, _, terminated, _, info = envs.step(expert.act(obs))
        assert not info["success"].any() and not terminated.any()
    seen = {**info, "ever_wrong": info["wrong"], "ever_grasped": taken, "ever_lifted": taken}
    seen["min_reach_dist"] = np.zeros(9)
    stages = envs.task.stage(seen)
    assert {envs.task.stages[i] for i in stages} == {"wrong_object"}
