"""The cube and the disc of `sort` are those in the sentence, and one pair is never drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.sim import make_vec_env
from simscaleai.sim.tasks.colors import COLORS
from simscaleai.sim.tasks.pick_place import HALF_SIZE
from simscaleai.sim.tasks.sort import CUBE_GAP, CUBE_HIGH, DISC_GAP, DISC_LOW, NEW, PLACES


def make(n: int, **settings: Any) -> Any:
    return make_vec_env("sort", n, dt=0.005, autoreset_mode="disabled", **settings)


def words_of(sentence: str) -> tuple[list[str], list[str]]:
    """Colors and places in a sentence."""
    words = sentence.split()
    return [c for c in COLORS if c in words], [p for p in PLACES if p in words]


def test_cubes_and_discs_start_apart_and_in_order() -> None:
    obs, _ = make(500).reset(seed=0)
    cubes = np.stack([obs[f"{color}_pos"] for color in COLORS], axis=1)
    discs = np.stack([obs[f"{place}_pos"] for place in PLACES], axis=1)
    np.testing.assert_allclose(cubes[..., 2], HALF_SIZE, atol=1e-6)
    np.testing.assert_allclose(discs[..., 2], HALF_SIZE, atol=1e-6)
    assert np.diff(np.sort(cubes[..., 1], axis=1), axis=1).min() > CUBE_GAP - 1e-6
    # the left disc has the largest y
    assert np.diff(discs[..., 1], axis=1).max() < 1e-6 - DISC_GAP
    assert discs[..., 0].min() - cubes[..., 0].max() > DISC_LOW[0] - CUBE_HIGH[0] - 1e-6
    leftmost = np.bincount(cubes[..., 1].argmax(axis=1), minlength=3)
    assert (leftmost > 120).all()  # of 500: any color may be on the left


def test_the_sentence_names_what_info_means() -> None:
    envs = make(300)
    _, info = envs.reset(seed=0)
    for phrasings in ("train", "held_out"):
        envs.task.use_phrasings(phrasings)
        for env_id in range(300):
            colors, places = words_of(envs.instruction(env_id))
            assert colors == [COLORS[info["wanted"][env_id]]]
            assert places == [PLACES[envs.task.wanted_place()[env_id]]]
            request = envs.task.all_requests[info["request"][env_id]]
            assert request == f"{colors[0]}_{places[0]}" != NEW
    counts = np.bincount(info["request"], minlength=8)
    assert len(counts) == 8 and (np.abs(counts - 37.5) < 20).all()


def test_the_new_combination_is_drawn_only_when_it_is_asked_for() -> None:
    envs = make(8)
    assert NEW not in envs.task.phrasings() and len(envs.task.phrasings()) == 8
    envs.task.use_phrasings("new_combination")
    envs.reset(seed=0)
    assert {words_of(envs.instruction(i))[0][0] for i in range(8)} == {"blue"}
    assert {words_of(envs.instruction(i))[1][0] for i in range(8)} == {"middle"}
    # in the words of training data
    known = {s.format(color="blue", place="middle") for s in envs.task.instructions}
    assert {envs.instruction(i) for i in range(8)} <= known
    assert envs.task.phrasings("new_combination").keys() == {NEW}
    with pytest.raises(
        UserError, match=r"'new_combinations'; known: held_out, new_combination, train"
    ):
        envs.task.use_phrasings("new_combinations")
    envs.task.use_phrasings("train")
    envs.reset(seed=0)
    assert not (envs.task.latent() == 8).any()
    color = make_vec_env("reach_color", 1)
    with pytest.raises(UserError, match="choice of phrasings"):
        color.task.use_phrasings("new_combination")


@pytest.mark.parametrize("request_name", ["red_left", "green_right", NEW])
def test_the_expert_puts_the_cube_where_it_is_asked_to(request_name: str, run_expert: Any) -> None:
    envs = make(12)
    envs.task.ask(request_name)
    obs, _ = envs.reset(seed=0)
    result = run_expert(envs, obs, 90)
    assert result["solved"].all()
    assert not (result["wrong"] | result["wrong_place"]).any()
    color, place = request_name.split("_")
    obs = envs.task.observe(envs.sim)
    away = np.linalg.norm(obs[f"{color}_pos"] - obs[f"{place}_pos"], axis=1)
    assert away.max() < 0.05  # solved within 3 cm; envs that were early have gone on since


def test_another_disc_is_a_failure_of_its_own(run_expert: Any) -> None:
    envs = make(6)
    envs.task.ask("red_left")
    envs.reset(seed=0)
    left, right = envs.task.discs[0], envs.task.discs[2]
    places = envs.sim.mocap_pos.copy()
    # the expert takes the right disc for the left one
    envs.sim.mocap_pos[:, [left, right]] = places[:, [right, left]]
    expert = envs.task.expert()
    for _ in range(70):
        action = expert.act(envs.task.observe(envs.sim))
        envs.sim.mocap_pos[:] = places
        _, _, terminated, _, info = envs.step(action)
        assert not terminated.any()
        envs.sim.mocap_pos[:, [left, right]] = places[:, [right, left]]
    assert info["wrong_place"].all() and not info["wrong"].any() and info["lifted"].all()
    np.testing.assert_array_equal(info["approached"], info["wanted"])
    summary = {**info, "ever_wrong": info["wrong"], "ever_wrong_place": info["wrong_place"]}
    summary |= {"ever_grasped": info["lifted"], "ever_lifted": info["lifted"]}
    summary["min_reach_dist"] = np.zeros(6)
    assert {envs.task.stages[i] for i in envs.task.stage(summary)} == {"wrong_place"}
    assert {envs.task.categories[i] for i in envs.task.category(summary)} == {"red_left"}
