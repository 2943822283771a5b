"""The loop of reinforcement learning: collect, update, log, evaluate and save, for any agent.

The run folder contains the settings (`config.yaml`), versions and command (`run_info.json`), metrics
(`metrics.jsonl` and TensorBoard files) and three agents: `last.pt` from the newest evaluation or a stop,
`best.pt` with the highest success rate (of equal ones, the highest return), and `final.pt`. `simscale eval`
runs each of them, and `--resume` resumes from it. Every evaluation runs the deterministic policy on the
same episodes, which training never uses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from simscaleai.config import to_yaml
from simscaleai.distributed import Processes
from simscaleai.errors import printable
from simscaleai.evaluation.suite import MAX_ENVS, episode_seeds, run_suite
from simscaleai.evaluation.summary import summarize
from simscaleai.models.inference import resolve_device
from simscaleai.rl.agents.agent import Agent, Metrics, State
from simscaleai.rl.agents.agent_checkpoint import load_agent, save_agent, timesteps_of
from simscaleai.rl.agents.mlp_agent import MLPAgent
from simscaleai.rl.agents.warm_start import warm_start
from simscaleai.rl.collector import Collector, learn
from simscaleai.rl.resuming import (
    NO_SCORE,
    Score,
    best_score,
    check_output,
    check_same_run,
    deciding,
    suite,
)
from simscaleai.rl.rl_progress import RLProgress
from simscaleai.rl.settings import RLConfig
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.vector_env import TaskVectorEnv
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.storage.find_checkpoint import find_checkpoint
from simscaleai.tracking import RunLog, write_run_info
from simscaleai.tracking.folder import lies_in
from simscaleai.tracking.run import Run

EVALUATED = ("success_rate", "success_ci", "mean_reward", "mean_length", "diverged")


class Runner:
    """One run of any algorithm.

    Args:
      config: settings from `RLConfig.complete`.
    """

    def __init__(self, config: RLConfig) -> None:
        self.config = config
        self.processes = Processes.from_environment()
        self.device = str(self.processes.join(resolve_device(config.device)))
        if self.device == "cpu":
            torch.set_num_threads(config.torch_threads)
        self.env = self._make_env(config.num_envs, "same_step")
        # Autoreset is disabled: at the end of its episode, an env waits for its next seed of the suite.
        self.eval_env = self._make_env(min(config.eval_episodes, MAX_ENVS), "disabled")
        self.eval_seeds = episode_seeds(config.eval_seed, config.eval_episodes, "eval_episodes")
        self.agent_class, self.agent_config = config.resolve_agent()
        self.deciding = deciding(config, self.env.contract)
        self.run = Run(config.folder, self.processes, step_of=timesteps_of)
        self.resumed: Path | None = None  # the checkpoint that this run resumes from
        with self.run.lock.released_on_error():  # `_make_agent` takes the lock to resume
            self.agent, self.saved_envs = self._make_agent()
        self.unrecorded: list[Metrics] = []  # of the updates since the last record
        self.evaluation: State = {}
        self.best = NO_SCORE
        self.start = time.perf_counter()
        self.evaluation_seconds = 0.0

    def train(self) -> State:
        """Train until the end or a stop signal; see `training.train_agent`."""
        with self.run.at_work():
            self._begin()
            with (
                self.run.stop,
                RLProgress(self.agent, self.config.show_progress and self.processes.is_main) as bar,
                self._open_log() as log,
            ):
                self.progress, self.log = bar, log
                self._learn()
            return self._finish()

    def _begin(self) -> None:
        """Archive an earlier run; write the settings and origin of this one."""
        config, is_main = self.config, self.processes.is_main
        if is_main and config.save_path:
            check_output(self.final)  # before hours of training
        self.run.archive_earlier(self.agent.timesteps)
        if not is_main:
            return
        for note in self.run.notes:
            print(printable(note))
        # A settings file may not name other folders: a `save_path` elsewhere must be given at each start.
        keep = config.save_path if lies_in(self.final, config.folder) else None
        write_run_info(
            config.folder,
            to_yaml(replace(config, resume_from=None, save_path=keep)),
            self.agent.timesteps,
            self.device,
            self.processes.size,
            # `viz-rl` reads the panels from here, without importing a user's agent
            {"metric_groups": [asdict(group) for group in self.agent.metric_groups]},
        )
        self.best = self._best_score()

    def _learn(self) -> None:
        config, agent = self.config, self.agent
        if config.init_from and self.resumed is None:
            summary = warm_start(agent, config.init_from, self.env)
            self.progress.say(f"Started from {config.init_from}: {summary}.")
        self.collector = Collector(agent, self.env, self.saved_envs)
        learn(agent, self.collector, self._after_update)
        unfinished = agent.timesteps < self.agent_config.total_timesteps
        self.stopped = unfinished and bool(self.run.stop.requested)
        if not self.stopped and (not self.evaluation or config.eval_every == 0):
            self._evaluate()

    def _finish(self) -> State:
        path = self.config.folder / "last.pt" if self.stopped else self.final
        if self.processes.is_main:
            self._save(path)
        return {
            **self.evaluation,
            "timesteps": self.agent.timesteps,
            "seconds": time.perf_counter() - self.start,
            "stopped": self.stopped,
            "output_path": str(path),
        }

    def _after_update(self, metrics: Metrics) -> bool:
        """Record, evaluate and save at their intervals; return True to stop."""
        config, agent = self.config, self.agent
        self.unrecorded.append(metrics)
        self.progress.update(agent.timesteps, metrics)
        over = agent.timesteps >= self.agent_config.total_timesteps
        if agent.updates % self.agent_config.log_every == 0 or over:
            self.log.record(agent.timesteps, means(self.unrecorded))
            self.unrecorded = []
        if config.eval_every and (agent.updates % config.eval_every == 0 or over):
            self._evaluate()
            if self.evaluation["success_rate"] >= config.stop_at_success:
                if not over:
                    self.progress.say(
                        f"Ended at {agent.timesteps:,} of {self.agent_config.total_timesteps:,} steps: the"
                        f" success rate has reached stop_at_success={config.stop_at_success:g}."
                    )
                return True
        # A signal may reach one process alone; all must stop after the same update.
        return self.run.all_stop()

    def _evaluate(self) -> None:
        before, is_main = time.perf_counter(), self.processes.is_main
        self.evaluation = self.processes.broadcast(self._evaluated(self.agent) if is_main else {})
        self.evaluation_seconds += time.perf_counter() - before
        metrics = {f"eval_{k}": v for k, v in self.evaluation.items() if k != "success_ci"}
        metrics["seconds"] = time.perf_counter() - self.start
        metrics["training_seconds"] = metrics["seconds"] - self.evaluation_seconds
        if is_main:
            self.log.record(self.agent.timesteps, metrics)
            self.progress.evaluated(self.evaluation)
            self._save(self.config.folder / "last.pt")
            # tuples compare the success rate first, then the return
            if (score := _score(self.evaluation)) > self.best:
                self.best = score
                self._save(self.config.folder / "best.pt")

    def _evaluated(self, agent: Agent) -> State:
        """Return the results of the deterministic policy on the evaluation suite."""
        results = summarize(run_suite(self.eval_env, agent.policy(), self.eval_seeds))
        return {key: results[key] for key in EVALUATED}

    def _save(self, path: Path) -> None:
        """Write the agent, with the settings and the score that `resuming` compares."""
        run: State = {"settings": self.deciding, "suite": suite(self.config)}
        if self.evaluation:
            run["score"] = list(_score(self.evaluation))
        save_agent(path, self.agent, self.collector.state_dict(), run=run)
        self.run.saved = (self.agent.timesteps, path)

    def _best_score(self) -> Score:
        """Return the score of the existing `best.pt` on the evaluation suite of this run."""
        score = best_score(self.config.folder, self.config)
        if score is None:  # its score is of another suite: evaluate it again
            best, _ = load_agent(self.config.folder / "best.pt", self.device)
            score = _score(self._evaluated(best))
        return score

    @property
    def final(self) -> Path:
        """Path of the final agent."""
        config = self.config
        return Path(config.save_path) if config.save_path else config.folder / "final.pt"

    def _make_env(self, num_envs: int, autoreset_mode: str) -> TaskVectorEnv:
        config = self.config
        return make_vec_env(
            config.env_name,
            num_envs,
            autoreset_mode=autoreset_mode,
            num_threads=config.num_threads,
            reward=config.reward,
            **{"cameras": [], **config.env},
        )

    def _make_agent(self) -> tuple[Agent, State | None]:
        """Return a new agent, or the resumed one and the state of its environments."""
        config = self.config
        if config.resume_from:
            # No other process may write the checkpoint while this one reads it.
            self.run.lock.take(create=False)
            self.resumed = self._checkpoint(config.resume_from)
        if self.resumed is None:
            return self._new_agent(), None
        path = str(self.resumed)
        check_same_run(load_checkpoint(path), self.deciding, path)
        agent, envs = load_agent(path, self.device, self.processes)
        self.run.resume(self.resumed, agent.timesteps)
        # the rest of the settings is the same, or has been taken from the environment
        wanted = self.agent_config
        agent.config = replace(
            agent.config, total_timesteps=wanted.total_timesteps, log_every=wanted.log_every
        )
        return agent, envs

    def _new_agent(self) -> Agent:
        space, action_dim = self.env.single_observation_space, self.env.contract.action_dim
        settings = (self.agent_config, self.device, self.processes)
        if issubclass(self.agent_class, MLPAgent):
            return self.agent_class.for_space(space, action_dim, *settings)
        # an agent of another base: the width of its state depends on `state_keys`
        extractor = MLPAgent.make_extractor(self.agent_config)
        example = {key: part.sample() for key, part in space.items()}
        return self.agent_class(extractor(example).shape[-1], action_dim, *settings)

    def _checkpoint(self, wanted: str) -> Path | None:
        """Return the checkpoint that `resume_from` selects; None for a new run."""
        if wanted != "auto":
            return find_checkpoint(wanted, resume=True)
        return self.run.newest()

    def _open_log(self) -> RunLog | _SilentLog:
        config = self.config
        if not self.processes.is_main:
            return _SilentLog()
        wandb = {"project": config.wandb_project, "name": config.name, "config": asdict(config)}
        return RunLog(
            config.folder,
            self.agent.timesteps,
            config.use_tensorboard,
            wandb if config.use_wandb else None,
        )


def _score(evaluation: State) -> Score:
    """Return the score by which agents are ranked."""
    reward = evaluation["mean_reward"]  # NaN would compare as neither better nor worse
    return evaluation["success_rate"], reward if math.isfinite(reward) else -math.inf


class _SilentLog:
    """Log of the processes other than the main one: records nothing."""

    def __enter__(self) -> _SilentLog:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def record(self, step: int, values: Mapping[str, float]) -> None:
        pass


def means(updates: list[Metrics]) -> Metrics:
    """Return the mean of each metric over the updates that report it; NaN counts as not reported."""
    values: dict[str, list[float]] = {}
    for metrics in updates:
        for key, value in metrics.items():
            if not math.isnan(value):
                values.setdefault(key, []).append(value)
    return {key: float(np.mean(present)) for key, present in values.items()}
