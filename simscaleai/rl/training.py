"""A whole run of reinforcement learning from settings alone: what `simscale rl` does.

    results = train_agent(RLConfig(env_name="reach", num_envs=128))

The run's folder holds `config.yaml`, `run_info.json`, `metrics.jsonl` (and TensorBoard's files), `last.pt`
(of the newest evaluation, and of a stop), `best.pt` (highest success, then highest return) and `final.pt`.
All of these are agents that `simscale eval` runs and `--resume` goes on from. The policy that is evaluated
is the deterministic one, on episodes that are the same every time and are not trained on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai.config import to_yaml
from simscaleai.distributed import Processes
from simscaleai.errors import printable
from simscaleai.evaluation.suite import MAX_ENVS, episode_seeds, run_suite
from simscaleai.evaluation.summary import summarize
from simscaleai.models.inference import resolve_device
from simscaleai.rl.agents.ppo import PPOAgent
from simscaleai.rl.agents.view import StateView
from simscaleai.rl.agents.warm_start import warm_start
from simscaleai.rl.progress import RLProgress
from simscaleai.rl.resuming import (
    NO_SCORE,
    Score,
    best_score,
    check_output,
    check_same_run,
    deciding,
    suite,
    timesteps_of,
)
from simscaleai.rl.settings import RLConfig
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.vector_env import TaskVectorEnv
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.storage.find_checkpoint import find_checkpoint
from simscaleai.tracking import RunLog, write_run_info
from simscaleai.tracking.folder import lies_in
from simscaleai.tracking.run import Run


def train_agent(config: RLConfig) -> dict[str, Any]:
    """Train a PPO agent as `config` says.

    Returns:
      {"success_rate", "success_ci", "mean_reward", "mean_length", "diverged"} of the last evaluation,
      "timesteps", "seconds" of this start, "output_path", and "stopped" (whether a signal ended it early).

    Raises:
      UserError: settings, environment and checkpoints do not fit together; before the first step.
      CannotWriteError: the disk is full or the like; says from which checkpoint to go on.
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
        self.eval_env = self._make_env(min(config.eval_episodes, MAX_ENVS), "disabled")
        self.eval_seeds = episode_seeds(config.eval_seed, config.eval_episodes, "eval_episodes")
        self.main = self.processes.is_main
        self.deciding = deciding(config, self.env.contract)
        self.run = Run(config.folder, self.processes, step_of=timesteps_of)
        self.resumed: Path | None = None
        with self.run.lock.released_on_error():
            self.agent = self._make_agent()
        self.window: list[dict[str, float]] = []
        self.evaluation: dict[str, Any] = {}
        self.best = NO_SCORE
        self.start = time.perf_counter()
        self.away = 0.0  # seconds that went into evaluation

    def train(self) -> dict[str, Any]:
        with self.run.at_work():
            return self._train()

    def _train(self) -> dict[str, Any]:
        config, agent = self.config, self.agent
        resumed = self.resumed is not None
        final = Path(config.save_path) if config.save_path else config.folder / "final.pt"
        if self.main:
            # a copy elsewhere is asked for at each start: a file of settings may not name other folders
            keep = config.save_path if lies_in(final, config.folder) else None
            text = to_yaml(replace(config, resume_from=None, save_path=keep))
            if config.save_path:
                check_output(final)
        self.run.archive_earlier(agent.timesteps)
        if self.main:
            for note in self.run.notes:
                print(printable(note))
            write_run_info(config.folder, text, agent.timesteps, self.device, self.processes.size)
            self.best = self._best_score()
        wandb = {"project": config.wandb_project, "name": config.name, "config": asdict(config)}
        with (
            self.run.stop,
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
            stopped = agent.timesteps < config.ppo.total_timesteps and bool(self.run.stop.requested)
            if not stopped and (not self.evaluation or config.eval_every == 0):
                self._evaluate()
        path = config.folder / "last.pt" if stopped else final
        if self.main:
            self._save(path)
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
        return self.run.all_stop()

    def _evaluate(self) -> None:
        before = time.perf_counter()
        self.evaluation = self.processes.broadcast(
            self._evaluated(self.agent) if self.main else None
        )
        self.away += time.perf_counter() - before
        numbers = {f"eval_{k}": v for k, v in self.evaluation.items() if k != "success_ci"}
        numbers["seconds"] = time.perf_counter() - self.start
        numbers["training_seconds"] = numbers["seconds"] - self.away
        if self.main:
            self.log.record(self.agent.timesteps, numbers)
            self.progress.evaluated(self.evaluation)
            self._save(self.config.folder / "last.pt")
            if (score := _score(self.evaluation)) > self.best:
                self.best = score
                self._save(self.config.folder / "best.pt")

    def _save(self, path: Path) -> None:
        """Write the agent, with what resuming the run needs to know."""
        run: dict[str, Any] = {"settings": self.deciding, "suite": suite(self.config)}
        if self.evaluation:
            run["score"] = list(_score(self.evaluation))
        self.agent.save(path, run=run)
        self.run.saved = (self.agent.timesteps, path)

    def _best_score(self) -> Score:
        """The score of the `best.pt` that is there, by the episodes of this run's evaluations."""
        score = best_score(self.config.folder, self.config)
        if score is None:
            before = PPOAgent.from_checkpoint(self.config.folder / "best.pt", self.device)
            score = _score(self._evaluated(before))
        return score

    def _evaluated(self, agent: PPOAgent) -> dict[str, Any]:
        found = summarize(run_suite(self.eval_env, agent.policy(), self.eval_seeds))
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
        if config.resume_from:
            # nobody else may be writing what this run resumes from
            self.run.lock.take(create=False)
            self.resumed = self._checkpoint(config.resume_from)
        contract = self.env.contract
        if self.resumed is None:
            space = self.env.single_observation_space
            view = StateView(config.ppo.state_keys, config.ppo.relative_positions)
            example = {key: part.sample() for key, part in space.items()}
            width = view(example).shape[-1]
            return PPOAgent(width, contract.action_dim, config.ppo, self.device, self.processes)
        path = str(self.resumed)
        agent = PPOAgent.from_checkpoint(path, self.device, self.processes)
        check_same_run(load_checkpoint(path), self.deciding, path)
        self.run.resume(self.resumed, agent.timesteps)
        agent.config = config.ppo
        return agent

    def _checkpoint(self, wanted: str) -> Path | None:
        """The file that `resume_from` means; None for a new run."""
        if wanted != "auto":
            return find_checkpoint(wanted, resume=True)
        return self.run.newest()


def _score(evaluation: Mapping[str, Any]) -> Score:
    """What decides which agent is the best one."""
    reward = evaluation["mean_reward"]
    return evaluation["success_rate"], reward if math.isfinite(reward) else -math.inf


class _Silent:
    """What other processes than the first write."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def record(self, step: int, values: Mapping[str, float]) -> None:
        pass


def means(window: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each number over the updates that had it; NaN is none."""
    found: dict[str, list[float]] = {}
    for numbers in window:
        for key, value in numbers.items():
            if not math.isnan(value):
                found.setdefault(key, []).append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}
