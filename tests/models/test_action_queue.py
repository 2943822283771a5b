from __future__ import annotations

import numpy as np
import pytest
import torch

from simscaleai.models.action_queue import ActionQueue


def plan(value: float, length: int = 3) -> np.ndarray:
    """One row's plan (1, L, 1): value, value + 1, ..."""
    return np.arange(value, value + length, dtype=np.float32)[None, :, None]


def step(queue: ActionQueue, plans: dict[int, float]) -> list[float]:
    """One step: rows that are due take the plans they are given, and no others are asked for."""
    window = queue.window({"x": torch.zeros(queue.num_envs, 1)})
    assert queue.due.tolist() == sorted(plans)
    for row, value in plans.items():
        queue.push(np.array([row]), plan(value))
    return queue.pop(window)[:, 0].tolist()


def test_a_plan_is_executed_before_the_next_and_rows_do_not_mix() -> None:
    queue = ActionQueue(2, n_action_steps=2)
    assert step(queue, {0: 10, 1: 20}) == [10, 20]
    queue.reset(np.array([False, True]), [5, 6])
    assert queue.seeds == [0, 6]
    assert step(queue, {1: 30}) == [11, 30]  # row 0 goes on with its plan
    assert step(queue, {0: 40}) == [40, 31]
    assert queue.steps.tolist() == [3, 2]


def test_a_window_repeats_the_first_observation_and_then_moves() -> None:
    queue = ActionQueue(2, n_obs_steps=3)
    seen = []
    for t in range(4):
        window = queue.window({"x": torch.tensor([[t], [10 * t]])})
        queue.push(queue.due, np.zeros((2, 1, 1), np.float32))
        queue.pop(window)
        if t == 1:
            queue.reset(np.array([False, True]), [0, 0])
        seen.append(window["x"][..., 0].tolist())
    assert seen == [
        [[0, 0, 0], [0, 0, 0]],
        [[0, 0, 1], [0, 0, 10]],
        [[0, 1, 2], [20, 20, 20]],  # row 1 has begun a new episode
        [[1, 2, 3], [20, 20, 30]],
    ]


def test_temporal_ensemble_by_hand() -> None:
    queue = ActionQueue(1, n_action_steps=3, ensemble=np.log(2))  # weights 1, 1/2, 1/4
    assert step(queue, {0: 0}) == [0]
    # The plan of step 0 says 1 for step 1, that of step 1 says 7: (1 * 1 + 7 / 2) / (3 / 2) = 3.
    assert step(queue, {0: 7}) == pytest.approx([3])
    # 2 of step 0, 8 of step 1 and 1 of step 2: (2 + 4 + 1 / 4) / (7 / 4) = 25 / 7.
    assert step(queue, {0: 1}) == pytest.approx([25 / 7])
    queue.reset(np.array([True]), [0])
    assert step(queue, {0: 4}) == [4]


def test_a_plan_does_not_depend_on_what_was_there_before() -> None:
    new = np.random.default_rng(0).normal(size=(1, 3, 1)).astype(np.float32)
    for old in (0.0, 1e4):
        for ensemble in (None, 0.1):
            queue = ActionQueue(1, n_action_steps=1, ensemble=ensemble)
            step(queue, {0: old})
            queue.reset(np.array([True]), [0])
            queue.push(queue.due, new)
            assert queue.pop({})[0, 0] == new[0, 0, 0]


def test_an_env_at_rest_is_not_due_until_it_is_reset() -> None:
    queue = ActionQueue(2)
    assert step(queue, {0: 1, 1: 2}) == [1, 2]
    queue.rest(np.array([True, False]))
    for value in (3, 4):
        assert step(queue, {1: value})[1] == value
    queue.reset(np.array([True, False]), [0, 0])
    assert step(queue, {0: 5, 1: 6}) == [5, 6]
