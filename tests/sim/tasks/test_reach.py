from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from simscaleai import seeding
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.tasks.reach import TARGET_HIGH, TARGET_LOW, THRESHOLD


def test_targets_fill_the_documented_box() -> None:
    task = make_env("reach", cameras=[]).task
    u = seeding.generator(0, "test").random((2000, task.num_uniforms))
    targets = task.initial_state(u)["mocap_pos"][:, 0]
    low, high = np.array([0.3, -0.3, 0.1]), np.array([0.7, 0.3, 0.5])
    assert (targets >= low).all() and (targets <= high).all()
    np.testing.assert_allclose(targets.min(axis=0), low, atol=0.01)
    np.testing.assert_allclose(targets.max(axis=0), high, atol=0.01)
    np.testing.assert_allclose(targets.mean(axis=0), (low + high) / 2, atol=0.02)


def test_success_bonus_and_end_share_one_threshold() -> None:
    assert THRESHOLD == 0.02
    for distance, success in ((0.0195, True), (0.0205, False)):
        env = make_env("reach", cameras=[], dt=0.005)
        env.reset(seed=0)
        env.sim.mocap_pos[:] = env.data.site("ee").xpos + np.array([distance, 0, 0])
        _, reward, terminated, _, info = env.step(np.zeros(4))
        assert info["distance"] == pytest.approx(distance, abs=1e-4)
        assert info["success"] == terminated == success
        assert info["reward_terms"]["success"] == float(success)
        assert (reward > 5) == success


def test_distance_is_between_hand_and_target() -> None:
    env = make_env("reach", cameras=[], dt=0.005)
    obs, info = env.reset(seed=3)
    for _ in range(3):
        apart = np.linalg.norm(obs["target_pos"] - obs["ee_pos"])
        assert info["distance"] == pytest.approx(apart, abs=1e-6)
        obs, *_, info = env.step(np.array([0.3, 0.3, -0.3, 0]))


def test_the_expert_reaches_every_corner(run_expert: Any) -> None:
    corners = np.array(list(itertools.product(*zip(TARGET_LOW, TARGET_HIGH, strict=True))))
    env = make_vec_env("reach", 8, dt=0.005, autoreset_mode="disabled")
    env.reset(seed=0)
    env.sim.mocap_pos[:, 0] = corners
    result = run_expert(env, env.task.observe(env.sim), 100)
    missed = corners[~result["solved"]].tolist()
    assert missed == [], result["distance"][~result["solved"]]
