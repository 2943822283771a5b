"""PPO learns what it should, and nothing else: values in closed form, repeatability, saving."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.ppo import ActorCritic, PPOAgent, PPOConfig
from simscaleai.rl.collector import Collector
from simscaleai.sim import make_env, make_vec_env
from simscaleai.storage.checkpoint import save_checkpoint

DT = 0.01  # s; coarse physics is as good for learning alike


class Forever(gymnasium.Env):
    """Pays 1 for every step and never ends, but is cut off after some steps, in one of three ways."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, end: str = "truncated", length: int = 10) -> None:
        self.end, self.length = end, length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == self.length
        obs = np.zeros(1, np.float32)
        if self.end == "truncated":
            return obs, 1.0, False, over, {}
        diverged = over and self.end == "diverged"
        return obs + diverged, 1.0 - diverged, over, False, {"diverged": diverged}


@pytest.mark.parametrize("end", ["truncated", "terminated"])
def test_a_cut_off_episode_goes_on_in_its_value(end: str) -> None:
    gamma = 0.7
    config = PPOConfig(
        gamma=gamma,
        gae_lambda=0.95,
        lr=5e-2,
        n_steps=24,
        n_epochs=6,
        batch_size=24,
        hidden_dim=16,
        total_timesteps=480,
        scale_reward=False,
        normalize_obs=False,
        entropy_coef=0.0,
    )
    agent = PPOAgent(1, 1, config)
    history = agent.train(Forever(end, length=4))
    value = agent.network.value(torch.zeros(1, 1)).item()
    # endless, 1 + 0.7 + 0.49 + ... = 3.33; after k of 4 steps (1 - 0.7^(4-k)) / 0.3 is left: on average
    # 1.86 over k = 0 .. 3
    assert value == pytest.approx(3.33 if end == "truncated" else 1.86, abs=0.15)
    assert not any(history["diverged"])


def test_unstable_physics_ends_an_episode_in_the_value_of_what_came_before() -> None:
    agent = PPOAgent(
        1,
        1,
        PPOConfig(gamma=0.9, hidden_dim=8, n_steps=12, scale_reward=False, normalize_obs=False),
    )
    rollout = Collector(agent, Forever("diverged")).collect(agent)
    agent.finish_rollout()
    buffer = agent.buffer
    assert rollout.metrics()["diverged"] == 1
    assert (rollout.rewards, rollout.lengths) == ([9.0], [9.0])
    assert torch.nonzero(~buffer.valid).tolist() == [[9, 0]]
    assert buffer.advantages[9].item() == 0.0
    # the last step that counts: 1 + 0.9 V(s) - V(s), where s is always the same
    value = buffer.values[8].item()
    assert buffer.values[9].item() == pytest.approx(value)
    assert buffer.advantages[8].item() == pytest.approx(1 + 0.9 * value - value, abs=1e-6)


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_steps_of_unstable_physics_are_not_learned_from(mode: str) -> None:
    env = make_vec_env("reach", 4, max_episode_steps=10, autoreset_mode=mode, dt=DT)
    step, count = env.step, itertools.count()

    def unstable(actions: np.ndarray) -> Any:
        if next(count) % 5 == 3:
            env.sim.qvel[1, 0] = np.nan
        return step(actions)

    env.step = unstable  # type: ignore[method-assign]
    agent = PPOAgent(20, 4, small(total_timesteps=48))
    history = agent.train(env)
    assert history["diverged"][0] >= 2
    assert all(np.isfinite(values).all() for values in history.values())


def test_physics_that_is_never_stable_is_refused() -> None:
    env = make_vec_env("reach", 2, dt=DT)
    step = env.step

    def unstable(actions: np.ndarray) -> Any:
        env.sim.qvel[:, 0] = np.nan
        return step(actions)

    env.step = unstable  # type: ignore[method-assign]
    with pytest.raises(UserError, match="unstable in every step"):
        PPOAgent(20, 4, small()).train(env)


def small(**changes: object) -> PPOConfig:
    values = {"n_steps": 16, "n_epochs": 2, "batch_size": 32, "hidden_dim": 32} | changes
    return PPOConfig(**{"total_timesteps": 256, **values})  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_history() -> None:
    def run(seed: int) -> dict[str, list[float]]:
        agent = PPOAgent(20, 4, small(seed=seed))
        torch.rand(3)  # global randomness plays no part
        env = make_vec_env("reach", 4, max_episode_steps=10, autoreset_mode="same_step", dt=DT)
        history = agent.train(env)
        return numbers(history)

    first = run(0)
    assert run(0) == first
    assert run(1) != first
    assert len(first["policy_loss"]) == 4  # 256 / (16 * 4)
    assert len(first["episode_reward"]) > 20


def test_a_single_environment_works_as_documented() -> None:
    agent = PPOAgent(20, 4, small(total_timesteps=48))
    history = agent.train(make_env("reach", cameras=[], max_episode_steps=10, dt=DT))
    assert set(history) >= {"episode_reward", "episode_length", "policy_loss", "value_loss"}
    assert history["episode_length"][:4] == [10, 10, 10, 10]
    obs, _ = make_env("reach", cameras=[], dt=DT).reset(seed=0)
    assert agent.predict(obs).shape == (4,)
    assert agent.predict(np.zeros((5, 20), np.float32)).shape == (5, 4)
    assert not np.array_equal(agent.predict(obs, deterministic=False), agent.predict(obs))


def test_the_reward_is_the_weighted_sum_of_its_terms() -> None:
    env = make_vec_env("pick_place", 4, autoreset_mode="same_step", max_episode_steps=10, dt=DT)
    agent = PPOAgent(28, 4, small(total_timesteps=640))
    shown: list[dict[str, float]] = []
    history = agent.train(env, shown.append)
    weights = env.task.reward_weights
    assert all(f"reward/{name}" in shown[0] for name in weights)
    per_step = [sum(w * n[f"reward/{name}"] for name, w in weights.items()) for n in shown]
    # ten rollouts of 16 steps are 16 episodes of 10 steps in each of 4 envs
    assert len(history["episode_reward"]) == 64
    assert np.mean(per_step) == pytest.approx(np.mean(history["episode_reward"]) / 10, rel=1e-6)


def test_saved_and_loaded_it_acts_the_same(tmp_path: Path) -> None:
    agent = PPOAgent(20, 4, small())
    agent.train(make_vec_env("reach", 4, dt=DT))
    agent.save(tmp_path / "agent.pt")
    obs = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    for other in (PPOAgent.from_checkpoint(tmp_path / "agent.pt"), PPOAgent(20, 4, small(seed=1))):
        other.load(tmp_path / "agent.pt")
        np.testing.assert_array_equal(other.predict(obs), agent.predict(obs))
        assert other.timesteps == agent.timesteps
    with pytest.raises(UserError, match="do not fit"):
        PPOAgent(21, 4, small()).load(tmp_path / "agent.pt")
    save_checkpoint(tmp_path / "other.pt", {"kind": "policy"})
    with pytest.raises(UserError, match="no agent of reinforcement"):
        PPOAgent.from_checkpoint(tmp_path / "other.pt")


def test_an_agent_that_never_trained_predicts_saves_and_then_trains(tmp_path: Path) -> None:
    env = make_env("reach", cameras=[], max_episode_steps=10, dt=DT)
    obs, _ = env.reset(seed=0)
    flat = np.concatenate([obs[key] for key in sorted(obs)])
    agent = PPOAgent(20, 4, small(total_timesteps=32))
    many = agent.predict(np.stack([flat] * 2))
    np.testing.assert_allclose(agent.predict(flat), many[0], atol=1e-6)
    agent.save(tmp_path / "untrained.pt")
    policy = ModelPolicy.from_checkpoint(tmp_path / "untrained.pt", device="cpu")
    np.testing.assert_allclose(policy.act({"state": flat[None]})[0], agent.predict(flat), atol=1e-6)
    for loaded in (agent, PPOAgent.from_checkpoint(tmp_path / "untrained.pt")):
        loaded.train(env)
        np.testing.assert_array_equal(loaded.predict(obs), loaded.predict(flat))
    loaded.save(tmp_path / "trained.pt")
    again = PPOAgent(20, 4, small(total_timesteps=64))
    again.load(tmp_path / "trained.pt")
    np.testing.assert_array_equal(again.predict(flat), loaded.predict(obs))
    again.train(env)
    with pytest.raises(UserError, match=r"shape \(19,\), and the agent was made for obs_dim=20"):
        again.predict(flat[1:])
    with pytest.raises(UserError, match="lacks 'ee_pos'"):
        again.predict({key: value for key, value in obs.items() if key != "ee_pos"})


def numbers(history: dict[str, list[float]]) -> dict[str, list[float]]:
    return {k: v for k, v in history.items() if "second" not in k}


def trained(agent: PPOAgent, mode: str, on_update: Any = None) -> dict[str, list[float]]:
    """Its numbers of a run in pick_place."""
    settings: dict[str, Any] = {"max_episode_steps": 10, "domain_randomization": True, "dt": DT}
    env = make_vec_env("pick_place", 4, autoreset_mode=mode, **settings)
    return numbers(agent.train(env, on_update))


TO_STOP = small(total_timesteps=7 * 64 - 40, target_kl=0.01)


@cache
def whole_run(mode: str) -> tuple[PPOAgent, dict[str, list[float]]]:
    """The agent that nothing stops, and its numbers."""
    agent = PPOAgent(28, 4, TO_STOP)
    return agent, trained(agent, mode)


@pytest.mark.parametrize(
    ("stop_after", "mode"), [(1, "same_step"), (3, "next_step"), (6, "same_step")]
)
def test_killed_and_resumed_it_is_the_same_run(mode: str, stop_after: int, tmp_path: Path) -> None:
    whole, expected = whole_run(mode)
    first = PPOAgent(28, 4, TO_STOP)
    before = trained(first, mode, lambda n: first.updates == stop_after)
    first.save(tmp_path / "agent.pt")
    second = PPOAgent.from_checkpoint(tmp_path / "agent.pt")
    after = trained(second, mode)
    assert {k: before.get(k, []) + after.get(k, []) for k in expected} == expected
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key]), key
    for ours, theirs in zip(
        whole.optimizer.state_dict()["state"].values(),
        second.optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_its_checkpoint_is_a_policy_like_any_other(tmp_path: Path) -> None:
    agent = PPOAgent(28, 4, small())
    env = make_vec_env("pick_place", 4, dt=DT)
    agent.train(env)
    agent.save(tmp_path / "agent.pt")
    policy = ModelPolicy.from_checkpoint(tmp_path / "agent.pt", device="cpu")
    obs, _ = env.reset(seed=3)
    np.testing.assert_allclose(policy.act(obs), agent.predict(obs), atol=1e-6)
    assert policy.contract is not None and policy.contract.env_name == "pick_place"


def test_a_wrong_width_is_named() -> None:
    with pytest.raises(UserError, match=r"20 numbers.*obs_dim=7"):
        PPOAgent(7, 4, small()).train(make_vec_env("reach", 2, dt=DT))


def test_actor_critic_shapes_and_first_actions() -> None:
    torch.manual_seed(0)
    network = ActorCritic(20, 4, hidden_dim=32)
    obs = torch.randn(8, 20)
    distribution, values = network(obs)
    assert distribution.sample().shape == (8, 4)
    assert values.shape == (8,)
    assert distribution.mean.abs().max() < 0.1  # gain 0.01
    action, log_prob, value = network.get_action(obs[0])
    assert (action.shape, log_prob.shape, value.shape) == ((4,), (), ())
    log_prob, value, entropy = network.evaluate_actions(obs, distribution.mean)
    # a standard normal at its mean: -log(2 pi)/2 for each of 4 actions; its entropy 0.5 + log(2 pi)/2
    half = 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(log_prob, torch.full((8,), -4 * half, dtype=torch.float32))
    torch.testing.assert_close(entropy, torch.full((8,), 4 * (0.5 + half), dtype=torch.float32))
