"""PPO in environments of other packages: their actions, observations and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.rl.collector import Collector


def box(*shape: int, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(-1, 1, shape, dtype)


class Env(gymnasium.Env):
    """Observes samples of a space, and pays for actions near the upper bound."""

    action_space: spaces.Space[Any]

    def __init__(self, observed: Any = None, acting: Any = None, **odd: Any):
        self.observation_space, self.action_space = observed or box(3), acting or box(2)
        self.odd = odd
        self.actions: list[Any] = []
        self.seeds: list[Any] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        self.actions.append(np.array(action))
        assert self.action_space.contains(action), action
        pays = float(np.mean(action))
        reward = self.odd["reward"](self.steps) if "reward" in self.odd else pays
        return self._observe(), reward, self.steps >= 5, False, self.odd.get("info", {})

    def _observe(self):
        if "obs" in self.odd:
            return self.odd["obs"](self.steps)
        return self.observation_space.sample()


def small(**changes: Any) -> PPOConfig:
    values: dict[str, Any] = {"n_steps": 16, "n_epochs": 2, "batch_size": 16, "hidden_dim": 8}
    return PPOConfig(**(values | {"total_timesteps": 64} | changes))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-50, 50, (2,), np.float32),
        spaces.Box(np.array([0.1, -2.0]), np.array([0.3, 7.0]), dtype=np.float64),
        spaces.Box(0, 5, (2, 3), np.float32),
        spaces.Box(-2, 2, (), np.float32),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_it_acts_in_the_box_in_training_and_afterwards(
    space: spaces.Box, many: bool, tmp_path: Path
) -> None:
    width = int(np.prod(space.shape))
    envs = [Env(acting=space) for _ in range(2)]
    agent = PPOAgent(3, width, small(log_std_init=1.0, n_epochs=1))
    agent.train(SyncVectorEnv([lambda e=e: e for e in envs]) if many else envs[0])
    taken = np.stack(envs[0].actions)
    assert taken.min() == space.low.min() and taken.max() == space.high.max()

    obs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    agent.network.actor.output.bias.data[:] = 0.5
    agent.network.actor.output.weight.data *= 0
    expected = space.low.astype(float) + 0.75 * (space.high.astype(float) - space.low)
    agent.save(tmp_path / "agent.pt")
    for actor in (agent, PPOAgent.from_checkpoint(tmp_path / "agent.pt")):
        actions = actor.predict(obs)
        np.testing.assert_allclose(actions, np.broadcast_to(expected, actions.shape), rtol=1e-5)
        assert actor.predict(obs[0]).shape == space.shape
        noisy = actor.predict(obs, deterministic=False)
        assert all(space.contains(np.asarray(action)) for action in noisy)
    policy = ModelPolicy.from_checkpoint(tmp_path / "agent.pt", device="cpu")
    acted = policy.act({"state": obs})
    np.testing.assert_allclose(acted, np.tile(expected.reshape(-1), (40, 1)), rtol=1e-5)
    agent.network.actor.output.bias.data[:] = 9.0
    agent.save(tmp_path / "agent.pt")
    acted = ModelPolicy.from_checkpoint(tmp_path / "agent.pt", device="cpu").act({"state": obs})
    assert all(space.contains(a.astype(space.dtype).reshape(space.shape)) for a in acted)


def test_it_learns_where_the_box_is_wide() -> None:
    """The best action is the upper bound, 50: after some updates the mean is far on the way."""
    env = Env(acting=spaces.Box(0, 50, (2,), np.float32))
    settings = {"n_steps": 64, "total_timesteps": 384, "batch_size": 32, "n_epochs": 3}
    agent = PPOAgent(3, 2, small(**settings, lr=0.1, entropy_coef=0.0))
    agent.train(env)
    assert agent.predict(np.zeros(3)).mean() > 40  # 25 at the start


def test_what_was_drawn_is_stored_and_what_is_executed_is_clipped() -> None:
    env = Env(acting=spaces.Box(-2, 2, (2,), np.float32))
    agent = PPOAgent(3, 2, small(log_std_init=1.0, normalize_obs=False))
    Collector(agent, env).collect(agent)
    buffer = agent.buffer
    drawn = buffer.actions[:, 0].numpy()
    assert np.abs(drawn).max() > 1.5
    np.testing.assert_allclose(np.stack(env.actions), 2 * drawn.clip(-1, 1), rtol=1e-6)
    log_probs = agent.network.evaluate_actions(buffer.obs[:, 0], buffer.actions[:, 0])[0]
    np.testing.assert_allclose(buffer.log_probs[:, 0], log_probs.detach(), atol=1e-5)


def test_other_actions_than_before_are_refused(tmp_path: Path) -> None:
    agent = PPOAgent(3, 2, small())
    agent.train(Env())
    agent.save(tmp_path / "agent.pt")
    other = Env(acting=spaces.Box(-2, 2, (2,), np.float32))
    agent = PPOAgent.from_checkpoint(tmp_path / "agent.pt")
    agent.config.total_timesteps = 128
    with pytest.raises(UserError, match=r"actions are 2 numbers in \[-2, 2\].*\[-1, 1\]"):
        agent.train(other)
    assert other.actions == [] and other.seeds == []


@pytest.mark.parametrize(
    ("space", "width"),
    [
        (spaces.Dict(observation=box(6, dtype=np.float64), desired_goal=box(3)), 9),
        (spaces.Dict(robot=spaces.Dict(q=box(7), hand=spaces.Dict(w=box(2))), goal=box(3)), 12),
        (spaces.Dict(a=box(3), t=box(), m=box(2, 3), k=spaces.Discrete(4)), 11),
        (spaces.Dict(a=box(3), seen=spaces.Box(0, 255, (8, 8, 3), np.uint8)), 3),
        (spaces.Tuple((box(2), spaces.Tuple((box(3), box())), spaces.MultiBinary(2))), 8),
        (box(4, 3), 12),
        (spaces.Box(0, 255, (4, 4, 3), np.uint8), 48),
        (spaces.Discrete(5), 1),
    ],
)
@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_observations_of_any_structure(space: Any, width: int, mode: AutoresetMode | None) -> None:
    make = [lambda: Env(space)] * 2
    env = make[0]() if mode is None else SyncVectorEnv(make, autoreset_mode=mode)
    agent = PPOAgent(width, 2, small(n_steps=8, n_epochs=1, total_timesteps=16))
    agent.train(env)
    one, many = make[0]().reset(seed=0)[0], env.reset(seed=0)[0]
    assert agent.predict(one).shape == (2,)
    assert agent.predict(many).shape == ((2,) if mode is None else (2, 2))
    if mode is not None:
        np.testing.assert_allclose(agent.predict(many)[0], agent.predict(one), atol=1e-5)
    flat = np.zeros((4, width), np.float32)
    assert agent.predict(flat).shape == (4, 2)
    if width > 1:  # (1,) may be one state or one of one number
        assert agent.predict(flat[0]).shape == (2,)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Dict(image=spaces.Box(0, 255, (8, 8, 3), np.uint8)), "no vectors but image"),
        (spaces.Dict(a=box(3), word=spaces.Text(4)), "part 'word' is of <U"),
        (spaces.Text(4), "part 'state' is of <U"),
        (spaces.Tuple((box(2), spaces.Sequence(box(1)))), "numbers|lacks"),
        (box(4), r"has 4 numbers, and the agent was made for obs_dim=3"),
    ],
)
def test_observations_that_are_no_vectors_are_named_before_the_first_step(space, message) -> None:
    env = Env(space)
    env.reset(seed=0)
    with pytest.raises(UserError, match=message) as error:
        PPOAgent(3, 2, small()).train(env)
    assert "\n" not in str(error.value) and env.actions == []


@pytest.mark.parametrize(
    ("env", "agent", "message"),
    [
        (Env(acting=box(4)), (3, 2), "have 4 entries, and the agent was made for action_dim=2"),
        (Env(acting=spaces.Discrete(2)), (3, 1), "is a Discrete"),
        (object(), (3, 2), "is a object; agents learn in a gymnasium"),
    ],
)
def test_environments_that_do_not_fit_are_named_before_they_begin(env, agent, message) -> None:
    with pytest.raises(UserError, match=message):
        PPOAgent(*agent, small()).train(env)
    assert getattr(env, "seeds", []) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["reward", "obs"])
@pytest.mark.parametrize("many", [False, True])
def test_numbers_that_are_not_finite_are_named(value: float, what: str, many: bool) -> None:
    def odd(step: int) -> Any:
        number = value if step == 3 else 0.0
        return number if what == "reward" else np.full(3, number, np.float32)

    def make() -> Env:
        return Env(**{what: odd})

    env = SyncVectorEnv([Env, make]) if many else make()
    said = f"reward {value}" if what == "reward" else "an observation that is not finite"
    with pytest.raises(UserError, match=rf"'Env|Sync.*{said} at step 3 in env {int(many)}"):
        PPOAgent(3, 2, small()).train(env)


@pytest.mark.parametrize("kind", [lambda r: np.array([r]), np.float32, int, lambda r: [r]])
def test_rewards_of_any_kind_of_number(kind: Any) -> None:
    history = PPOAgent(3, 2, small()).train(Env(reward=lambda step: kind(step)))
    assert history["episode_reward"][0] == 1 + 2 + 3 + 4 + 5


def test_rewards_that_are_no_number_are_named() -> None:
    for wrong in (np.zeros(2), "much", None):
        with pytest.raises(UserError, match="must be one number"):
            PPOAgent(3, 2, small()).train(Env(reward=lambda step, wrong=wrong: wrong))


def test_success_is_read_as_evaluation_reads_it_and_seeds_are_short() -> None:
    numbers: list[dict[str, float]] = []
    env = Env(info={"is_success": np.float32(1), "reward_terms": "none"})
    PPOAgent(3, 2, small()).train(env, numbers.append)
    assert numbers[0]["success_rate"] == 1
    assert env.seeds[0] < 2**32


def test_a_rollout_of_one_step_is_learned_from() -> None:
    for mode in (None, AutoresetMode.NEXT_STEP):
        env: Any = Env() if mode is None else SyncVectorEnv([Env], autoreset_mode=mode)
        agent = PPOAgent(3, 2, small(n_steps=1, batch_size=1, n_epochs=1, total_timesteps=8))
        history = agent.train(env)
        assert len(history["policy_loss"]) == 8 and np.isfinite(history["value_loss"]).all()
        assert all(p.detach().isfinite().all() for p in agent.network.parameters())
        assert np.isnan(history["explained_variance"]).all()  # one return has no variance


def test_the_first_reward_is_not_divided_by_a_spread_that_nobody_knows() -> None:
    """One reward of 5 has no spread; divided by 1e-4 it would be 50,000."""
    agent = PPOAgent(3, 2, small(n_steps=1, n_epochs=1, total_timesteps=1))
    history = agent.train(Env(reward=lambda step: 5.0))
    assert history["value_loss"][0] < 100
