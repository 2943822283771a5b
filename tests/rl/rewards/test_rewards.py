"""Rewards by hand, for one step and for many."""

from __future__ import annotations

import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.rl.rewards.rewards import (
    ActionPenalty,
    CompositeReward,
    DistanceReward,
    RewardFunction,
    SuccessBonus,
)
from simscaleai.sim import make_env, make_vec_env

# 3-4-5 and 0.03 m
OBS = {"ee_pos": np.array([[3.0, 4, 0], [0, 0, 0.03]]), "target_pos": np.zeros((2, 3))}
ACTION = np.array([[0.6, 0.8, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (DistanceReward(), [-5.0, -0.03]),
        (DistanceReward(scale=2.0), [-10.0, -0.06]),
        (SuccessBonus(), [0.0, 1.0]),
        (SuccessBonus(threshold=0.02, bonus=10.0), [0.0, 0.0]),
        (ActionPenalty(), [-0.01, 0.0]),
        (CompositeReward([(DistanceReward(), 2.0), (SuccessBonus(bonus=3.0), 0.5)]), [-10, 1.44]),
    ],
)
def test_of_one_step_and_of_many(reward: RewardFunction, expected: list[float]) -> None:
    np.testing.assert_allclose(reward.compute(OBS, ACTION, {}), expected)
    for i, value in enumerate(expected):
        one = reward.compute({k: v[i] for k, v in OBS.items()}, ACTION[i], {})
        assert isinstance(one, float)
        assert one == pytest.approx(value)


def test_terms_are_named_and_add_up() -> None:
    inner = CompositeReward([(ActionPenalty(), 1.0), (DistanceReward(), 1.0)])
    reward = CompositeReward([(DistanceReward(), 2.0), (inner, 0.5)])
    terms = reward.terms(OBS, ACTION, {})
    assert list(terms) == ["distance_reward", "action_penalty", "distance_reward_2"]
    np.testing.assert_allclose(terms["distance_reward_2"], [-2.5, -0.015])
    np.testing.assert_allclose(sum(terms.values()), reward.compute(OBS, ACTION, {}))


def test_an_unknown_observation_is_named() -> None:
    with pytest.raises(UserError, match=r"'hand'.*ee_pos, target_pos"):
        DistanceReward("hand").compute(OBS, ACTION, {})


def test_an_environment_pays_a_reward_of_ones_own() -> None:
    reward = CompositeReward([(DistanceReward(), 2.0), (ActionPenalty(scale=0.1), 1.0)])
    env = make_env("reach", cameras=[], reward=reward)
    envs = make_vec_env("reach", 3, reward=reward)
    env.reset(seed=0)
    envs.reset(seed=0)
    actions = np.full((3, 4), 0.5)
    _, single, *_, info = env.step(actions[0])
    batched, rewards, *_, infos = envs.step(actions)
    assert single == rewards[0] == pytest.approx(sum(info["reward_terms"].values()))
    # twice the distance, and 0.1 times the length of (0.5, 0.5, 0.5, 0.5), which is 1
    distance = np.linalg.norm(batched["ee_pos"] - batched["target_pos"], axis=1)
    np.testing.assert_allclose(rewards, -2 * distance - 0.1, rtol=1e-6)
    assert set(infos["reward_terms"]) == {"distance_reward", "action_penalty"}


def test_rewards_by_name_and_by_weights() -> None:
    def pays(reward: object) -> float:
        env = make_env("reach", cameras=[], reward=reward)
        env.reset(seed=0)
        return float(env.step(np.zeros(4))[1])

    assert pays("sparse") == 0.0
    assert pays("default") == pays(None) < 0
    weights = {"distance": 3.0}
    env = make_env("reach", cameras=[], reward=weights)
    env.reset(seed=0)
    _, paid, *_, info = env.step(np.zeros(4))
    assert paid == pytest.approx(-3 * info["distance"])
    for wrong, message in (
        ("dense", "sparse"),
        ({"speed": 1.0}, "distance"),
        (3, "RewardFunction"),
    ):
        with pytest.raises(UserError, match=message):
            make_env("reach", cameras=[], reward=wrong)
