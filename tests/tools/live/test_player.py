"""What a viewer is given to draw: the episodes of an evaluation, evenly, with the user's hands in them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation.suite import episode_seed
from simscaleai.policy import RandomPolicy
from simscaleai.sim import make_env
from simscaleai.tools.live.player import FRAME, REST, Player

DT = 0.05


def player(name: str = "reach", seed: int = 3, **settings: Any) -> Player:
    env: Any = make_env(name, cameras=[], **settings)
    return Player(env, env.task.expert(), seed)


def test_the_simulation_is_the_one_that_is_evaluated() -> None:
    live = player("pick_place")
    env: Any = make_env("pick_place", cameras=[])
    expert = env.task.expert()
    obs, _ = env.reset(seed=episode_seed(3, 0))
    expert.reset(np.ones(1, bool), [0])
    over = False
    live.advance(0.01)  # the first step is due at once
    while not over:
        obs, _, terminated, truncated, _ = env.step(
            expert.act({key: value[None] for key, value in obs.items()})[0]
        )
        over = terminated or truncated
        np.testing.assert_array_equal(live.env.data.qpos, env.data.qpos)
        live.advance(0.02)
        live.advance(0.03)
    assert (live.finished, live.successes) == (1, 1)


def test_a_policy_gets_the_instruction_of_each_episode() -> None:
    class Listening(RandomPolicy):
        def reset(self, mask: Any, seeds: Any, instructions: Any = None) -> None:
            super().reset(mask, seeds)
            given.append(instructions[0])

    given: list[str] = []
    env: Any = make_env("reach_color", cameras=[], max_episode_steps=1)
    live = Player(env, Listening(4))
    for _ in range(6):
        assert given[-1] == env.instruction()
        live.advance(DT + REST + DT)
    assert len(set(given)) > 2


def finish(live: Player) -> None:
    """Advance to the end of the present episode."""
    count = live.finished
    for _ in range(300):
        live.advance(DT)
        if live.finished > count:
            return
    raise AssertionError("the episode has no end")


@pytest.mark.parametrize("color", ["red", "green", "blue"])
def test_the_present_episode_asks_for_what_the_user_says(color: str) -> None:
    live = player("reach_color")
    live.advance(DT)
    before = live.env.data.qpos.copy()
    live.say(f"now go to the {color} thing")
    np.testing.assert_array_equal(live.env.data.qpos, before)  # the scene stays
    assert live.instruction == f"now go to the {color} thing" and live.counts
    for _ in range(2):  # the next episode as well
        finish(live)
        wanted = live._rollout.info["wanted"]
        assert ("red", "green", "blue")[int(wanted)] == color
        assert live.instruction == f"now go to the {color} thing"
        live.advance(REST + DT)
    assert live.successes == live.finished >= 2


def test_a_sentence_that_names_nothing_is_told_and_not_counted() -> None:
    live = player("reach_color")
    live.say("do as you like")
    for _ in range(40):
        live.advance(DT)
    assert live.instruction == "do as you like" and not live.counts
    assert (live.finished, live.successes) == (0, 0)
    live.say(None)
    assert not live.counts  # the present episode still has that sentence
    live.begin()
    assert live.counts and "{" not in live.instruction != "do as you like"


def test_a_task_without_language_says_so() -> None:
    live = player("reach")
    assert not live.listens
    with pytest.raises(UserError, match="takes no instruction"):
        live.say("up")


def test_another_policy_starts_the_same_episode_anew() -> None:
    live = player("reach_color")
    live.say("the red one")
    start = live.env.data.qpos.copy()
    live.advance(4 * DT)
    model = live.model
    live.play(live.env, RandomPolicy(4))
    np.testing.assert_array_equal(live.env.data.qpos, start)
    assert live.model is model and live.instruction == "the red one"
    other: Any = make_env("reach", cameras=[])
    live.play(other, other.task.expert())  # a task without language
    assert live.model is not model and live.instruction == "reach the green target"
    finish(live)
    assert live.successes == 1


def test_the_copy_moves_evenly_one_step_behind() -> None:
    live = player()
    live.advance(0.2)  # on the way
    before = live._before.copy()
    after = live.env.data.qpos.copy()
    assert np.abs(after - before).max() > 0.01  # rad
    shown = []
    for _ in range(3):
        shown.append(live.data.qpos.copy())
        np.testing.assert_array_equal(live.env.data.qpos, after)  # the next step is not due yet
        live.advance(DT / 3 - 1e-9)
    for share, qpos in zip((0, 1 / 3, 2 / 3), shown, strict=True):
        np.testing.assert_allclose(qpos, before + share * (after - before), atol=1e-6)
    np.testing.assert_array_equal(live.data.mocap_pos, live.env.data.mocap_pos)


def test_episodes_follow_each_other_after_a_rest() -> None:
    live = player()
    while live.finished == 0:
        live.advance(DT)
    reached = live.env.data.qpos.copy()
    live.advance(REST - 2 * DT)
    np.testing.assert_array_equal(live.env.data.qpos, reached)
    np.testing.assert_allclose(live.data.qpos, reached, atol=1e-9)
    assert live.status == "Episode 1 | 1 of 1 succeeded"
    live.advance(3 * DT)
    assert live.status == "Episode 2 | 1 of 1 succeeded"
    assert np.abs(live.data.qpos - reached).max() > 0.01


def test_a_failure_counts_as_one() -> None:
    env: Any = make_env("reach", cameras=[], max_episode_steps=2)
    live = Player(env, RandomPolicy(4), 0)
    live.advance(3 * DT)
    assert (live.finished, live.successes) == (1, 0)


def test_a_goal_that_the_user_drags_is_the_new_goal() -> None:
    live = player()
    live.advance(DT)
    goal = np.array([0.5, 0.2, 0.4])
    live.data.mocap_pos[0] = goal
    for _ in range(3):  # frames before the next control step is due must not undo it
        live.advance(0.001)
    while live.finished == 0:
        live.advance(DT)
    assert live.successes == 1
    hand = live.env.data.site("ee").xpos
    assert np.linalg.norm(hand - goal) < 0.02


def test_a_push_lasts_no_longer_than_the_episode() -> None:
    live = player("pick_place")
    block = live.model.body("object").id
    height = live.data.xpos[block, 2]
    live.data.xfrc_applied[block, 2] = 5.0  # N, up; it weighs far less
    live.advance(2 * DT)
    assert live.env.data.xpos[block, 2] > height + 0.01
    live.begin()
    live.advance(DT)
    assert not live.env.data.xfrc_applied.any()


def test_time_is_the_clock_s_times_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    live = player()
    live.speed = 0.5
    frames = 31
    for _ in range(frames):
        clock[0] += FRAME
        live.tick()
    steps = 1 + int(frames * FRAME * 0.5 / DT)  # the first one is due at once
    assert live.env.data.time == pytest.approx(steps * DT)
    live.paused = True
    clock[0] += 1.0
    live.tick()
    assert live.env.data.time == pytest.approx(steps * DT)
    live.paused = False
    clock[0] += 3600.0  # a laptop that slept: no hour is made up for
    live.tick()
    assert live.env.data.time <= (steps + 2) * DT + 1e-9
