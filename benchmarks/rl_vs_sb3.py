"""PPO against Stable-Baselines3's on our reach: steps per second, and wall-clock to 95 % success.

    python benchmarks/rl_vs_sb3.py [--steps 200000]

Both train networks of the same size (two layers of 64, which Stable-Baselines3 has by default) in the same
environment, on the same number of steps with the same hyperparameters, and are evaluated alike every 20,480
steps, which is left out of the times. Stable-Baselines3 gets each of its two vector wrappers: environments
one after the other in its own process (`DummyVecEnv`), and in processes of their own (`SubprocVecEnv`);
observations and rewards are normalized by `VecNormalize`, as ours are. PyTorch has one thread on both sides.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from _rl import ROOT
from gymnasium.wrappers import FlattenObservation
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from simscaleai.config import load_config
from simscaleai.evaluation import EvalConfig, evaluate_policy
from simscaleai.observations import flatten_state
from simscaleai.rl.agents.ppo import PPOAgent
from simscaleai.rl.settings import RLConfig
from simscaleai.sim import make_env, make_vec_env

EVERY = 20_480  # steps
EPISODES = 100


class Curve:
    """Seconds of training at each evaluation, and how it went."""

    def __init__(self, config: RLConfig) -> None:
        self.envs = make_vec_env("reach", EPISODES, autoreset_mode="disabled", **config.env)
        self.points: list[tuple[float, float]] = []
        self.away = 0.0
        self.start = time.perf_counter()

    def add(self, act: Any) -> None:
        before = time.perf_counter()
        found = evaluate_policy(self.envs, act, EvalConfig(n_episodes=EPISODES))
        self.points.append((before - self.start - self.away, found["success_rate"]))
        self.away += time.perf_counter() - before

    def seconds(self) -> float:
        return time.perf_counter() - self.start - self.away

    def until(self, success: float) -> float | None:
        return next((s for s, rate in self.points if rate >= success), None)


def ours(config: RLConfig, steps: int) -> tuple[Curve, float]:
    config.agent["total_timesteps"] = steps
    ppo = config.resolve_agent()[1]
    env = make_vec_env("reach", config.num_envs, autoreset_mode="same_step", **config.env)
    agent = PPOAgent(20, 4, ppo)
    curve = Curve(config)

    def after(numbers: dict[str, float]) -> None:
        if agent.timesteps % EVERY == 0:
            curve.add(agent.predict)

    agent.train(env, after)
    return curve, agent.timesteps / curve.seconds()


class Evaluate(BaseCallback):
    """Evaluates every `EVERY` steps."""

    def __init__(self, curve: Curve, venv: VecNormalize) -> None:
        super().__init__()
        self.curve, self.venv = curve, venv

    def _on_step(self) -> bool:
        if self.num_timesteps % EVERY == 0:
            self.curve.add(self._act)
        return True

    def _act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        rows = self.venv.normalize_obs(flatten_state(obs))
        return self.model.predict(rows, deterministic=True)[0]


def make_flat(settings: dict[str, Any]) -> FlattenObservation:
    return FlattenObservation(make_env("reach", cameras=[], **settings))


def theirs(config: RLConfig, steps: int, wrapper: Any, num_envs: int) -> tuple[Curve, float]:
    """Stable-Baselines3 with our hyperparameters; a rollout has as many steps as ours."""
    ppo: Any = config.resolve_agent()[1]
    venv = VecNormalize(wrapper([partial(make_flat, config.env)] * num_envs), gamma=ppo.gamma)
    rollout = ppo.n_steps * config.num_envs
    model = PPO(
        "MlpPolicy",
        venv,
        learning_rate=ppo.lr,
        n_steps=rollout // num_envs,
        batch_size=ppo.batch_size,
        n_epochs=ppo.n_epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip_epsilon,
        ent_coef=ppo.entropy_coef,
        vf_coef=ppo.value_loss_coef,
        max_grad_norm=ppo.max_grad_norm,
        policy_kwargs={
            "net_arch": [ppo.hidden_dim] * ppo.n_layers,
            "log_std_init": ppo.log_std_init,
        },
        device="cpu",
        seed=ppo.seed,
    )
    curve = Curve(config)
    model.learn(steps, callback=Evaluate(curve, venv))
    seconds = curve.seconds()
    venv.close()
    return curve, model.num_timesteps / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=204_800)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, on both sides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subproc", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    def config() -> RLConfig:
        loaded = load_config(RLConfig, ROOT / "configs/rl/reach.yaml")
        loaded.seed = args.seed
        return loaded

    rows = [(f"ours, {config().num_envs} environments", *ours(config(), args.steps))]
    for name, wrapper, n in (
        ("SB3, DummyVecEnv of 16", DummyVecEnv, 16),
        ("SB3, SubprocVecEnv of 2", SubprocVecEnv, 2),
        ("SB3, SubprocVecEnv of 16", SubprocVecEnv, 16),
    ):
        if wrapper is SubprocVecEnv and not args.subproc:
            continue
        rows.append((name, *theirs(config(), args.steps, wrapper, n)))
    table = Table(title=f"PPO on reach, {args.steps:,} steps, {torch.get_num_threads()} threads")
    for heading in ("", "steps/s", "ours is", "seconds to 95 %", "ours is", "last success"):
        table.add_column(heading, justify="left" if not heading else "right")
    fastest, soonest = rows[0][2], rows[0][1].until(0.95)
    for name, curve, speed in rows:
        reached = curve.until(0.95)
        table.add_row(
            name,
            f"{speed:,.0f}",
            f"{fastest / speed:.1f} x",
            "never" if reached is None else f"{reached:.1f}",
            "" if reached is None or soonest is None else f"{reached / soonest:.1f} x",
            f"{curve.points[-1][1]:.0%}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
