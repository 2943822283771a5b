"""A whole run of reinforcement learning from settings alone: what `simscale rl` does.

    results = train_agent(RLConfig(env_name="reach", num_envs=128))

The run's folder holds `config.yaml`, `run_info.json`, `metrics.jsonl` (and TensorBoard's files), `last.pt`
(of the newest evaluation, and of a stop), `best.pt` (highest success, then highest return) and `final.pt`.
All of these are agents that `simscale eval` runs and `--resume` goes on from. The policy that is evaluated
is the deterministic one, on episodes that are the same every time and are not trained on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai.config import to_yaml
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.models.inference import resolve_device
from simscaleai.rl.agents.ppo import PPOAgent
from simscaleai.rl.agents.view import StateView
from simscaleai.rl.agents.warm_start import warm_start
from simscaleai.rl.episodes import episode_seed, run_batch
from simscaleai.rl.evaluator import ROWS, summarize
from simscaleai.rl.progress import RLProgress
from simscaleai.rl.settings import RLConfig
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.vector_env import TaskVectorEnv
from simscaleai.stopping import StopSignals
from simscaleai.tracking import RunLog, write_run_info
from simscaleai.tracking.folder import make_room

CHECKPOINTS = ("last.pt", "best.pt", "final.pt")


def train_agent(config: RLConfig) -> dict[str, Any]:
    """Train a PPO agent as `config` says.

    Returns:
      {"success_rate", "success_ci", "mean_reward", "mean_length", "diverged"} of the last evaluation,
      "timesteps", "seconds" of this start, "output_path", and "stopped" (whether a signal ended it early).

    Raises:
      UserError: settings, environment and checkpoints do not fit together; before the first step.
    """
    config = replace(config, ppo=replace(config.ppo, seed=config.seed))
    config.check()
    threads = torch.get_num_threads()
    try:
        return _Run(config).train()
    finally:
        torch.set_num_threads(threads)


class _Run:
    def __init__(self, config: RLConfig) -> None:
        self.config = config
        self.processes = Processes.from_environment()
        self.device = str(self.processes.join(resolve_device(config.device)))
        if self.device == "cpu":
            torch.set_num_threads(config.torch_threads)
        self.env = self._make_env(config.num_envs, "same_step")
        self.eval_env = self._make_env(min(config.eval_episodes, ROWS), "disabled")
        self.main = self.processes.main
        self.agent = self._make_agent()
        self.window: list[dict[str, float]] = []
        self.evaluation: dict[str, Any] = {}
        self.best = (-1.0, -np.inf)
        self.start = time.perf_counter()
        self.away = 0.0  # seconds that went into evaluation

    def train(self) -> dict[str, Any]:
        config, agent = self.config, self.agent
        resumed = agent.updates > 0
        if self.main:
            if not resumed:
                self._make_room()
            text = to_yaml(replace(config, resume_from=None))
            write_run_info(config.folder, text, agent.timesteps, self.device, self.processes.size)
        wandb = {"project": config.wandb_project, "name": config.name, "config": asdict(config)}
        with (
            StopSignals() as self.stop,
            RLProgress(config, agent.timesteps, self.main) as self.progress,
            RunLog(
                config.folder,
                agent.timesteps,
                config.use_tensorboard,
                wandb if config.use_wandb else None,
            )
            if self.main
            else _Silent() as self.log,
        ):
            if config.init_from and not resumed:
                fit = warm_start(agent, config.init_from, self.env)
                self.progress.say(f"Started from {config.init_from}: {fit}.")
            agent.train(self.env, self._after_update)
            stopped = agent.timesteps < config.ppo.total_timesteps and bool(self.stop.requested)
            if not stopped and (not self.evaluation or config.eval_every == 0):
                self._evaluate()
        path = Path(config.save_path) if config.save_path else config.folder / "final.pt"
        if self.main:
            path = config.folder / "last.pt" if stopped else path
            agent.save(path)
        return {
            **self.evaluation,
            "timesteps": agent.timesteps,
            "seconds": time.perf_counter() - self.start,
            "stopped": stopped,
            "output_path": str(path),
        }

    def _after_update(self, numbers: dict[str, float]) -> bool:
        """Record, evaluate and save where it is time to; True to stop."""
        config, agent = self.config, self.agent
        self.window.append(numbers)
        self.progress.update(agent.timesteps, numbers)
        over = agent.timesteps >= config.ppo.total_timesteps
        if agent.updates % config.ppo.log_every == 0 or over:
            self.log.record(agent.timesteps, means(self.window))
            self.window = []
        if config.eval_every and (agent.updates % config.eval_every == 0 or over):
            self._evaluate()
            enough = self.evaluation["success_rate"] >= config.stop_at_success
            if enough:
                return True
        wishes = torch.tensor(float(self.stop.requested is not None))
        return bool(self.processes.sum(wishes) > 0)

    def _evaluate(self) -> None:
        before = time.perf_counter()
        self.evaluation = self.processes.share(self._evaluated() if self.main else None)
        self.away += time.perf_counter() - before
        numbers = {f"eval_{k}": v for k, v in self.evaluation.items() if k != "success_ci"}
        numbers["seconds"] = time.perf_counter() - self.start
        numbers["training_seconds"] = numbers["seconds"] - self.away
        if self.main:
            self.log.record(self.agent.timesteps, numbers)
            self.progress.evaluated(self.evaluation)
            self.agent.save(self.config.folder / "last.pt")
            score = (self.evaluation["success_rate"], self.evaluation["mean_reward"])
            if score > self.best:
                self.best = score
                self.agent.save(self.config.folder / "best.pt")

    def _evaluated(self) -> dict[str, Any]:
        policy = self.agent.policy()
        config = self.config
        seeds = [episode_seed(config.eval_seed, i) for i in range(config.eval_episodes)]
        steps = self.eval_env.config.max_episode_steps
        found = summarize(run_batch(self.eval_env, policy.act, seeds, steps, policy.reset))
        wanted = ("success_rate", "success_ci", "mean_reward", "mean_length", "diverged")
        return {key: found[key] for key in wanted}

    def _make_env(self, rows: int, mode: str) -> TaskVectorEnv:
        config = self.config
        return make_vec_env(
            config.env_name,
            rows,
            autoreset_mode=mode,
            num_threads=config.num_threads,
            reward=config.reward,
            **{"cameras": [], **config.env},
        )

    def _make_agent(self) -> PPOAgent:
        """A new one, or the one to go on with."""
        config = self.config
        path = config.resume_from
        if path == "auto":
            found = [p for p in (config.folder / n for n in CHECKPOINTS) if p.exists()]
            path = str(max(found, key=lambda p: p.stat().st_mtime)) if found else None
        contract = self.env.contract
        if path is None:
            space = self.env.single_observation_space
            view = StateView(config.ppo.state_keys, config.ppo.relative_positions)
            example = {key: part.sample() for key, part in space.items()}
            width = view(example).shape[-1]
            return PPOAgent(width, contract.action_dim, config.ppo, self.device, self.processes)
        agent = PPOAgent.from_checkpoint(path, self.device, self.processes)
        differing = [
            f"ppo.{k} is {getattr(config.ppo, k)}, and {v} there"
            for k, v in asdict(agent.config).items()
            if k != "total_timesteps" and v != getattr(config.ppo, k)
        ]
        if differing:
            raise UserError(
                f"The run of {path!r} had other settings: "
                + "; ".join(differing)
                + "; resume with the"
                " same ones (its config.yaml)."
            )
        agent.config = config.ppo
        return agent

    def _make_room(self) -> None:
        aside = make_room(self.config.folder, CHECKPOINTS)
        if aside:
            print(f"Moved the files of an earlier run to {aside}.")


class _Silent:
    """What other processes than the first write."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def record(self, step: int, values: Mapping[str, float]) -> None:
        pass


def means(window: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each number over the updates that had it."""
    keys = dict.fromkeys(key for numbers in window for key in numbers)
    return {
        key: float(np.mean([numbers[key] for numbers in window if key in numbers])) for key in keys
    }
