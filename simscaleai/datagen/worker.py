"""Run the episodes of a job in this process, which keeps the environment for the next ones.

    for finished in kept_worker.get(job).episodes(indices, seeds):
        ...

An episode is the same in any process, and whichever episodes run beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simscaleai.datagen.job import Job
from simscaleai.executors.kept import Kept
from simscaleai.json_types import JsonDict
from simscaleai.rollout.episode_recorder import EpisodeRecorder
from simscaleai.rollout.loop import ExplorationNoise, run_episodes
from simscaleai.rollout.policies import make_policy
from simscaleai.rollout.switched_instructions import SwitchedInstructions
from simscaleai.storage.episode import Episode


def make_env(job: Job, num_envs: int) -> Any:
    """Return the vector environment of a job with `num_envs` envs."""
    from simscaleai.sim import make_vec_env

    randomization: JsonDict = {"domain_randomization": job.randomization is not None}
    if job.randomization is not None:
        randomization["randomization_level"] = job.randomization
    return make_vec_env(
        job.env_name,
        num_envs,
        autoreset_mode="disabled",
        num_threads=job.num_threads,
        **{**job.env_kwargs, **randomization, "max_episode_steps": job.max_steps},
    )


class Worker:
    """Runs episodes in this process; the environment is reused between calls."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._env: Any = None
        self._policy: Any = None
        self._recorder: EpisodeRecorder

    def episodes(self, indices: Sequence[int], seeds: Sequence[int]) -> Iterator[list[Episode]]:
        """Run the episodes `indices` on `seeds`; yield those that ended after every step, often none."""
        job = self.job
        self._prepare(len(indices))
        noise = ExplorationNoise(job.noise, job.max_steps) if job.noise > 0 else None
        for _ in run_episodes(self._env, self._policy, seeds, [self._recorder], noise=noise):
            for episode in self._recorder.finished:
                episode.index = indices[episode.index]  # its number in the dataset
            yield self._recorder.finished

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None

    def _prepare(self, count: int) -> None:
        """Make an environment with a number of envs that fits `count` episodes."""
        if self._env is not None and self._env.num_envs <= 2 * count:
            return
        self.close()
        self._env = make_env(self.job, batch_width(count, self.job.num_envs))
        self._policy = make_policy(self.job.policy_type, self._env)
        if self.job.switch_instructions:
            sentences = self._env.contract.instructions
            self._policy = SwitchedInstructions(self._policy, sentences, self.job.max_steps)
        # kept for all calls: its buffers are large, and new memory is slow to touch
        job = self.job
        self._recorder = EpisodeRecorder(job.max_steps, job.next_obs, job.expert_labels)


def batch_width(count: int, limit: int) -> int:
    """Return the number of envs for `count` episodes: at most `limit`, in rounds of equal size.

    100 episodes on at most 64 envs are two rounds of 50, not 64 and then 36 with idle envs.
    """
    rounds = -(-count // limit)
    return -(-count // rounds)


kept_worker: Kept[Job, Worker] = Kept(Worker, Worker.close)
"""The worker of this process: its environment serves all items of a job."""
