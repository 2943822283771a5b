from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simscaleai.evaluation import EvalConfig, evaluate_policy
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.tasks.reach_around import LEFT, RIGHT


def rows(n: int, **settings: Any) -> Any:
    return make_vec_env("reach_around", n, dt=0.005, autoreset_mode="disabled", **settings)


def test_a_start_is_symmetric_and_hides_the_side() -> None:
    envs = rows(400)
    obs, info = envs.reset(seed=0)
    for key in ("ee_pos", "post_pos", "target_pos"):
        np.testing.assert_allclose(obs[key][:, 1], 0, atol=1e-6)
    assert (obs["post_pos"][:, 0] > obs["ee_pos"][:, 0] + 0.10).all()
    assert (obs["target_pos"][:, 0] > obs["post_pos"][:, 0] + 0.12).all()
    sides = envs.task.latent()
    assert set(sides) == {LEFT, RIGHT} and 0.43 < (sides == LEFT).mean() < 0.57
    assert (info["side"] == 0).all() and not info["hit"].any()
    envs.sim.mocap_pos[:, envs.task._latent_id, 0] *= -1
    for key, value in envs.task.observe(envs.sim).items():
        np.testing.assert_array_equal(value, obs[key])
    assert (envs.sim.sensordata > 0.05).all()  # and nothing touches anything


def test_both_ways_cost_the_same(run_expert: Any) -> None:
    """The same starts once to the left and once to the right: mirror images."""
    lengths, returns = [], []
    for side in (LEFT, RIGHT):
        envs = rows(20)
        obs, _ = envs.reset(seed=0)
        envs.sim.mocap_pos[:, envs.task._latent_id, 0] = side
        expert, total, length = envs.task.expert(), np.zeros(20), np.zeros(20)
        for _ in range(40):
            obs, reward, _, _, info = envs.step(expert.act(obs))
            total += reward
            length += ~info["success"]
        assert info["success"].all() and (info["side"] == side).all() and not info["hit"].any()
        lengths.append(length)
        returns.append(total)
    assert np.abs(lengths[0] - lengths[1]).max() <= 1
    assert returns[0].mean() == pytest.approx(returns[1].mean(), rel=0.02)


def test_the_mean_of_both_ways_leads_into_the_post() -> None:
    """What a policy that minimizes squared error tends to: the average of the expert's actions."""
    envs = rows(20)
    envs.reset(seed=0)
    expert, choice = envs.task.expert(), envs.sim.mocap_pos[:, envs.task._latent_id, 0]

    def average(obs: dict[str, np.ndarray]) -> np.ndarray:
        actions = []
        for side in (LEFT, RIGHT):
            choice[:] = side
            actions.append(expert.act(obs))
        return np.mean(actions, axis=0)

    result = evaluate_policy(envs, average, EvalConfig(n_episodes=20, max_steps=60))
    assert result["failure_stages"] == {"hit_post": 20}


def straight(obs: dict[str, np.ndarray]) -> np.ndarray:
    action = np.zeros((*obs["ee_pos"].shape[:-1], 4), np.float32)
    action[..., :3] = np.clip((obs["target_pos"] - obs["ee_pos"]) / 0.05, -1, 1)
    return action


def test_the_straight_way_hits_the_post() -> None:
    result = evaluate_policy(rows(8), straight, EvalConfig(n_episodes=8, max_steps=60))
    assert result["failure_stages"] == {"hit_post": 8}


def test_a_touch_is_felt_and_remembered() -> None:
    env = make_env("reach_around", cameras=[], dt=0.005)
    env.reset(seed=0)
    for gap, touched in ((0.003, False), (0.0005, True)):
        env.reset(seed=0)
        # the hand's capsule, whose axis lies along y 0.0734 m above the tool center point, is 3.5 cm thick
        env.sim.mocap_pos[:, env.task.post, 0] = env.data.site("ee").xpos[0] + 0.055 + gap
        env.task.post_step(env.sim)
        env._forward()
        env.task.post_step(env.sim)
        assert bool(env.task.info(env.sim)["hit"][0]) == touched
        env.sim.mocap_pos[:, env.task.post, 0] += 0.2
        env.sim.mocap_pos[:, env.task.target] = env.data.site("ee").xpos
        _, _, terminated, _, info = env.step(np.zeros(4))
        assert info["hit"] == touched and terminated == info["success"] == (not touched)


def test_episodes_are_counted_by_the_side_that_was_taken() -> None:
    envs = rows(16)
    envs.reset(seed=0)
    result = evaluate_policy(envs, envs.task.expert().act, EvalConfig(n_episodes=32))
    assert result["success_rate"] == 1.0
    categories = result["categories"]
    assert set(categories) == {"left", "right"} and categories["left"]["n_episodes"] >= 8
    assert categories["left"]["n_episodes"] + categories["right"]["n_episodes"] == 32
