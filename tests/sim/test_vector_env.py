"""Row i of a vector environment is the single environment, bit by bit; autoreset; seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from simscaleai.errors import UserError
from simscaleai.sim import SimConfig, make_env, make_vec_env, register_env
from simscaleai.sim.tasks.reach import Reach
from simscaleai.sim.vector_env import TaskVectorEnv

ROWS = 3
LIMIT = 40  # steps until truncation: 1,000 steps are then some thirty episodes a row
Shown = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


def single(name: str, seed: int, steps: int, **settings: Any) -> tuple[np.ndarray, list[Shown]]:
    """Drive one environment by its expert with noise, and reset it the step after an episode ends.

    Returns its actions (steps, 4), and what each step, or each reset in its place, showed.
    """
    env = make_env(name, cameras=[], **settings)
    expert = env.task.expert()
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.3, (steps, 4)) * (rng.random((steps, 1)) < 0.5)
    actions, shown, over = np.zeros((steps, 4)), [], False
    obs, info = env.reset(seed=seed)
    shown.append((obs, 0.0, False, False, info))
    for step in range(steps):
        actions[step] = expert.act({k: v[None] for k, v in obs.items()})[0] + noise[step]
        if over:
            obs, info = env.reset()
            reward, terminated, truncated = 0.0, False, False
        else:
            obs, reward, terminated, truncated, info = env.step(actions[step])
        over = terminated or truncated
        shown.append((obs, reward, terminated, truncated, info))
    return actions, shown


def assert_row(row: int, vector: Any, expected: Shown) -> None:
    """Row `row` of a vector environment's step shows exactly what the single environment did."""
    obs, reward, terminated, truncated, info = vector
    assert obs.keys() == expected[0].keys()
    for key, value in expected[0].items():
        assert np.array_equal(obs[key][row], value), key
    assert (reward[row], terminated[row], truncated[row]) == expected[1:4]
    for key, value in expected[4].items():
        assert info[f"_{key}"][row], key
        if isinstance(value, dict):  # reward terms, randomization
            assert info[key].keys() == value.keys()
            for name, number in value.items():
                assert np.array_equal(info[key][name][row], number), (key, name)
        else:
            assert info[key][row] == value, key
    public = {key for key in info if key[0] != "_" and info[f"_{key}"][row]}
    assert public == expected[4].keys()


def on_reset(envs: Any, seed: Any) -> Any:
    obs, info = envs.reset(seed=seed)
    n = envs.num_envs
    return obs, np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), info


# 1,000 steps take seconds
@pytest.mark.parametrize("steps", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("reach", {"dt": 0.002}),
        ("reach", {"dt": 0.005, "domain_randomization": True, "ik": "jacobian_transpose"}),
        ("pick_place", {"dt": 0.005}),
        ("pick_place", {"dt": 0.005, "domain_randomization": True, "randomization_level": "heavy"}),
        ("reach_color", {"dt": 0.005}),
        ("pick_place_color", {"dt": 0.005, "domain_randomization": True}),
        ("reach_around", {"dt": 0.005, "domain_randomization": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_row_is_the_single_environment_bit_by_bit(
    name: str, settings: dict[str, Any], steps: int
) -> None:
    settings = {**settings, "max_episode_steps": LIMIT}
    runs = [single(name, 5 + i, steps, **settings) for i in range(ROWS)]
    for _, shown in runs:  # the comparison goes through many episodes
        ends = sum(terminated or truncated for _, _, terminated, truncated, _ in shown)
        assert ends >= steps // 50
    for threads in (1, 2):
        envs = make_vec_env(name, ROWS, num_threads=threads, **settings)
        vector = on_reset(envs, 5)
        for step in range(steps + 1):
            for row, (_, shown) in enumerate(runs):
                assert_row(row, vector, shown[step])
            if step < steps:
                vector = envs.step(np.stack([actions[step] for actions, _ in runs]))


@pytest.mark.parametrize("name", ["reach", "pick_place"])
def test_a_row_does_not_depend_on_how_many_there_are(name: str) -> None:
    runs = [single(name, i, 60, dt=0.005, max_episode_steps=LIMIT) for i in range(ROWS)]
    envs = make_vec_env(name, 11 * ROWS, dt=0.005, max_episode_steps=LIMIT)
    vector = on_reset(envs, [0, 1, 2] * 11)
    for step in range(61):
        for row in range(envs.num_envs):
            assert_row(row, vector, runs[row % ROWS][1][step])
        if step < 60:
            vector = envs.step(np.stack([runs[r % ROWS][0][step] for r in range(envs.num_envs)]))


def test_what_a_task_remembers_is_the_same_in_a_row() -> None:
    class Counting(Reach):
        """Succeeds at every third step, and so at the start already."""

        task_state = {"updates": np.int64}

        def post_step(self, sim: Any) -> None:
            sim.task_state["updates"] += 1

        def info(self, sim: Any) -> dict[str, Any]:
            updates = sim.task_state["updates"].copy()
            return {**super().info(sim), "updates": updates, "success": updates % 3 == 0}

    register_env("test-counting", Counting)
    for limit in (2, 5):
        settings: dict[str, Any] = {"dt": 0.005, "max_episode_steps": limit}
        actions, shown = single("test-counting", 0, 20, **settings)
        envs = make_vec_env("test-counting", 1, **settings)
        vector = on_reset(envs, 0)
        for step in range(20):
            assert_row(0, vector, shown[step])
            vector = envs.step(actions[step : step + 1])


# autoreset


def short(mode: str, n: int = 3, **settings: Any) -> Any:
    """Rows of reach at different points of four-step episodes: row i is i steps behind."""
    envs = make_vec_env("reach", n, autoreset_mode=mode, dt=0.005, max_episode_steps=4, **settings)
    envs.reset(seed=0)
    envs.steps[:] = [-i for i in range(n)]
    return envs


def test_autoreset_mode_is_declared() -> None:
    modes = {
        "next_step": AutoresetMode.NEXT_STEP,
        "same_step": AutoresetMode.SAME_STEP,
        "disabled": AutoresetMode.DISABLED,
    }
    for name, mode in modes.items():
        for form in (name, name.upper(), name.title(), mode, mode.value):
            envs = make_vec_env("reach", 1, autoreset_mode=form)
            assert envs.autoreset_mode == envs.metadata["autoreset_mode"] == mode
    assert make_vec_env("reach", 1).metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP


def test_next_step_ignores_the_action_and_rewards_nothing_on_reset() -> None:
    shown = []
    for last in (0.0, 1.0):
        envs = short("next_step")
        for _ in range(4):
            *_, truncated, _ = envs.step(np.full((3, 4), 0.2))
        assert truncated.tolist() == [True, False, False]
        actions = np.full((3, 4), 0.2)
        actions[0] = last
        obs, reward, terminated, truncated, info = envs.step(actions)
        assert reward[0] == 0.0 and not terminated[0] and not truncated[0]
        assert (reward[1:] != 0).all() and truncated.tolist() == [False, True, False]
        assert info["step"].tolist() == [0, 4, 3]
        assert info["_seed"].tolist() == [True, False, False]
        shown.append({key: value.tolist() for key, value in obs.items()})
    assert shown[0] == shown[1]
    start = make_env("reach", cameras=[], dt=0.005)
    start.reset(seed=0)
    np.testing.assert_array_equal(shown[0]["target_pos"][0], start.reset()[0]["target_pos"])


def test_same_step_starts_at_once_and_hands_over_the_last_observation() -> None:
    envs, reference = short("same_step"), short("disabled")
    for _ in range(4):
        obs, reward, _, truncated, info = envs.step(np.full((3, 4), 0.2))
        last, last_reward, *_ = reference.step(np.full((3, 4), 0.2))
    assert truncated.tolist() == [True, False, False]
    assert info["_final_obs"].tolist() == [True, False, False]
    np.testing.assert_array_equal(reward, last_reward)
    single_env = make_env("reach", cameras=[], dt=0.005)
    single_env.reset(seed=0)
    begun, _ = single_env.reset()
    for key, value in obs.items():
        np.testing.assert_array_equal(info["final_obs"][0][key], last[key][0])
        np.testing.assert_array_equal(value[1:], last[key][1:])
        np.testing.assert_array_equal(value[0], begun[key])
    assert info["final_obs"][1] is None and info["final_obs"][2] is None
    # and the new episode goes on from there
    obs, *_ = envs.step(np.full((3, 4), 0.2))
    np.testing.assert_array_equal(
        obs["joint_pos"][0], single_env.step(np.full(4, 0.2))[0]["joint_pos"]
    )


def test_same_step_gives_the_info_of_both_episodes_as_gymnasium_does() -> None:
    settings: dict[str, Any] = {"dt": 0.005, "max_episode_steps": 3}
    ours = make_vec_env("pick_place", 2, autoreset_mode="same_step", seed=7, **settings)
    theirs = SyncVectorEnv(
        [lambda: make_env("pick_place", cameras=[], **settings)] * 2, autoreset_mode="SameStep"
    )
    ours.reset(seed=7)
    theirs.reset(seed=7)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 2, 4)).astype(np.float32)
    for action in actions:
        *_, found = ours.step(action)
        *_, expected = theirs.step(action)
    assert expected["final_info"]["step"].tolist() == [3, 3]
    assert_same_info(found, expected)


def assert_same_info(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """`found` has all that `expected` has, and the same, but masks of nested entries."""
    for key, value in expected.items():
        if key in ("final_obs", "_final_obs"):
            continue
        if isinstance(value, dict):
            assert_same_info(found[key], value)
        elif key in found or not key.startswith("_"):
            np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_disabled_leaves_finished_rows_where_they_are() -> None:
    envs = short("disabled")
    for _ in range(4):
        obs, *_, truncated, _ = envs.step(np.full((3, 4), 0.2))
    assert truncated.tolist() == [True, False, False]
    after, reward, _, truncated, info = envs.step(np.ones((3, 4)))
    assert truncated.tolist() == [True, True, False]
    assert reward[0] == 0.0 and info["step"].tolist() == [4, 4, 3]
    for key in obs:
        np.testing.assert_array_equal(after[key][0], obs[key][0])
    assert (after["joint_pos"][1:] != obs["joint_pos"][1:]).all()


def test_a_row_that_stands_still_remembers_what_it_did() -> None:
    class Updates(Reach):
        task_state = {"updates": np.int64}

        def post_step(self, sim: Any) -> None:
            sim.task_state["updates"] += 1

    envs = TaskVectorEnv(
        Updates, 2, SimConfig(cameras=[], dt=0.005, max_episode_steps=3), autoreset_mode="disabled"
    )
    envs.reset(seed=0)
    for _ in range(2):
        envs.step(np.zeros((2, 4)))
    envs.reset(options={"reset_mask": [False, True]})
    for _ in range(2):
        envs.step(np.zeros((2, 4)))
    assert envs.sim.task_state["updates"].tolist() == [3, 2]  # row 0 was over after 3 of 4 steps


def test_a_solved_row_shows_the_same_until_it_is_reset(run_expert: Any) -> None:
    envs = make_vec_env("pick_place", 4, dt=0.005, autoreset_mode="disabled")
    obs, _ = envs.reset(seed=0)
    assert run_expert(envs, obs, 100)["solved"].all()
    _, _, terminated, _, info = envs.step(np.ones((4, 4)))
    states = envs.states()
    assert terminated.all() and info["grasped"].any()
    _, reward, terminated, _, after = envs.step(np.ones((4, 4)))  # the hand would open
    assert terminated.all() and not reward.any()
    np.testing.assert_array_equal(envs.states(), states)
    for key in ("step", "reach_dist", "place_dist", "grasped", "lifted", "success"):
        np.testing.assert_array_equal(after[key], info[key])


@pytest.mark.parametrize("randomize", [False, True])
def test_a_reset_mask_leaves_the_other_rows_untouched(randomize: bool) -> None:
    settings: dict[str, Any] = {"dt": 0.005, "domain_randomization": randomize}
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 4, 4))
    left, touched = (
        make_vec_env("pick_place", 4, autoreset_mode="disabled", **settings) for _ in range(2)
    )
    for envs in (left, touched):
        envs.reset(seed=0)
    mask = np.array([False, True, False, True])
    for step in range(30):
        if step in (10, 11, 20):
            before = touched.task.observe(touched.sim)
            obs, info = touched.reset(options={"reset_mask": mask})
            assert info["step"].tolist() == [step, 0, step, 0]
            np.testing.assert_array_equal(info["_seed"], mask)
            for key in obs:
                np.testing.assert_array_equal(obs[key][~mask], before[key][~mask])
        expected, found = left.step(actions[step]), touched.step(actions[step])
        for key in expected[0]:
            np.testing.assert_array_equal(found[0][key][~mask], expected[0][key][~mask])
        np.testing.assert_array_equal(found[1][~mask], expected[1][~mask])
        np.testing.assert_array_equal(left.states()[~mask], touched.states()[~mask])
    assert not np.array_equal(left.states()[1], touched.states()[1])


# seeds and states


def test_seeds_are_an_integer_a_list_or_left_out() -> None:
    envs = make_vec_env("reach", 3, dt=0.005)

    def targets(seed: Any) -> list[list[float]]:
        obs, info = envs.reset(seed=seed)
        assert info["seed"].shape == (3,)
        return obs["target_pos"].tolist()

    first, following = targets(4), targets(None)
    assert targets([4, 5, 6]) == first and targets(np.int64(4)) == first
    mixed = targets([5, None, 4])
    assert mixed[0] == first[1] and mixed[2] == first[0] and mixed[1] == following[1]
    assert len({tuple(t) for t in first + following}) == 6
    big = 2**63 - 5
    assert (
        targets([big] * 3)[0]
        == make_env("reach", cameras=[]).reset(seed=big)[0]["target_pos"].tolist()
    )


def test_a_row_without_a_seed_at_the_first_reset_starts_a_new_one() -> None:
    seeds = [make_vec_env("reach", 2).reset(seed=[None, 5])[1]["seed"] for _ in range(2)]
    assert seeds[0][1] == seeds[1][1] == 5
    assert seeds[0][0] != seeds[1][0]


def test_seeds_are_whole_numbers_below_2_63(refused: Callable[..., str]) -> None:
    single, envs = make_env("reach", cameras=[]), make_vec_env("reach", 3)
    for env in (single, envs):
        for seed in (-1, 2**63, 2**80):
            refused(lambda env=env, seed=seed: env.reset(seed=seed), str(seed), "0", "2**63")
        for seed in (1.5, "x"):
            refused(lambda env=env, seed=seed: env.reset(seed=seed), repr(seed), "whole number")
    refused(
        lambda: envs.reset(seed=2**63 - 3 + 1), str(2**63 - 2), "2**63 - 3"
    )  # row 2 has one more
    refused(lambda: envs.reset(seed=[0, 1, 2**63]), str(2**63))
    assert envs.reset(seed=2**63 - 3)[1]["seed"].tolist() == [2**63 - 3 + i for i in range(3)]
    assert single.reset(seed=2**63 - 1)[1]["seed"] == 2**63 - 1
    assert single.reset(seed=np.uint8(3))[1]["seed"] == 3


@pytest.mark.parametrize("name", ["reach", "pick_place", "pick_place_color", "reach_around"])
def test_recorded_states_show_what_was_observed(name: str) -> None:
    envs = make_vec_env(name, 2, dt=0.005, autoreset_mode="disabled")
    obs, _ = envs.reset(seed=0)
    expert = envs.task.expert()
    recorded = []
    for _ in range(30):
        recorded.append((envs.states(), {key: value.copy() for key, value in obs.items()}))
        obs, *_ = envs.step(expert.act(obs))
    other = make_vec_env(name, 2, dt=0.005)
    one = make_env(name, cameras=[], dt=0.005)
    for states, seen in reversed(recorded):
        other.sim.load_states(states)
        one.sim.load_states(states[1:])
        for key, value in seen.items():
            np.testing.assert_array_equal(other.task.observe(other.sim)[key], value)
            np.testing.assert_array_equal(one.task.observe(one.sim)[key][0], value[1])
        np.testing.assert_array_equal(other.states(), states)
        np.testing.assert_array_equal(one.states(), states[1:])


# refusals


def test_bad_arguments(refused: Callable[..., str]) -> None:
    refused(
        lambda: make_vec_env("reach", 2, autoreset_mode="samestep"),
        "'samestep'",
        "disabled, next_step, same_step",
        "Did you mean 'same_step'",
    )
    refused(lambda: make_vec_env("reach", 0), "num_envs is 0", "at least 1")
    envs = make_vec_env("reach", 3)
    refused(lambda: envs.step(np.zeros((3, 4))), "step", "reset first")
    refused(lambda: envs.reset(seed=[1, 2]), "2 seeds", "3 environments")
    envs.reset(seed=0)
    for mask in (np.ones(2, bool), np.ones((3, 1), bool), True):
        refused(lambda m=mask: envs.reset(options={"reset_mask": m}), "reset_mask", "(3,)")
    for actions in (np.zeros((4, 3)), np.zeros(4), np.zeros((2, 4))):
        refused(lambda a=actions: envs.step(a), "action", "(3, 4)")
    bad = np.zeros((3, 4))
    bad[2, 1] = np.nan
    refused(lambda: envs.step(bad), "NaN")


@pytest.mark.parametrize("randomized", [False, True])
def test_a_saved_state_goes_on_exactly(randomized: bool) -> None:
    def make():
        return make_vec_env("pick_place", 3, domain_randomization=randomized, max_episode_steps=9)

    actions = np.random.default_rng(0).uniform(-1, 1, (30, 3, 4)).astype(np.float32)
    whole = make()
    whole.reset(seed=5)
    for action in actions[:14]:  # in the middle of the second episode
        obs = whole.step(action)[0]
    saved = whole.get_state()
    other = make()
    resumed = other.set_state(saved)
    assert all(np.array_equal(resumed[k], obs[k]) for k in obs)
    for action in actions[14:]:  # over two more beginnings
        expected, found = whole.step(action), other.step(action)
        assert all(np.array_equal(found[0][k], expected[0][k]) for k in obs)
        assert np.array_equal(found[1], expected[1])
        assert np.array_equal(found[3], expected[3])
    with pytest.raises(UserError, match="same task"):
        make_vec_env("pick_place", 2).set_state(saved)
