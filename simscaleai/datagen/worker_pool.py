"""Run episodes in this process or in several worker processes, with the same results.

A worker gets episode indices, runs them on its own vector environment and writes them to shards. It shares
nothing with other workers, and reports only its progress. An episode is the same wherever it runs.

Ctrl-C reaches only the main process, which asks the others to stop: each drops its unfinished episodes and
saves the finished ones. A worker whose main process has ended exits at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from simscaleai.datagen.recipe import episode_seed
from simscaleai.datagen.shards import ShardWriter
from simscaleai.datagen.spawn import how_it_ended, spawn
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.rollout.episode_recorder import EpisodeRecorder
from simscaleai.rollout.loop import ExplorationNoise, run_episodes
from simscaleai.rollout.policies import make_policy
from simscaleai.rollout.registered import Registered
from simscaleai.rollout.switched_instructions import SwitchedInstructions
from simscaleai.storage.episode import Episode

_REPORT_SECONDS = 0.1  # the bar looks smooth, and pipes carry few messages


@dataclass(frozen=True)
class Job:
    """Settings of a worker.

    Attributes:
      env_name, env_kwargs, randomization, max_steps: the environment.
      policy_type, noise, seed: see `generate_dataset`.
      only_success: store only the arrays of episodes that succeeded; see `wants`.
      num_envs: the largest number of envs that a worker steps together.
      num_threads: physics threads of one worker; 0: all cores.
      folder: where shards are written.
      next_obs: whether to record the observation after each action, too.
      expert_labels, switch_instructions: see `generate_dataset`.
    """

    env_name: str
    randomization: str | None
    max_steps: int
    policy_type: str
    noise: float
    seed: int
    only_success: bool
    num_envs: int
    num_threads: int
    folder: Path
    env_kwargs: JsonDict = field(default_factory=dict)
    next_obs: bool = False
    expert_labels: bool = False
    switch_instructions: bool = False

    def wants(self, episode: Episode) -> bool:
        """Return whether an episode belongs in the dataset; never if its physics became unstable."""
        return not episode.diverged and (episode.success or not self.only_success)

    def registered(self) -> Registered:
        """Return what a worker needs of what the caller has registered; see `Registered.of`."""
        return Registered.of(self.env_name, self.env_kwargs.get("controller"), self.policy_type)


class Progress(NamedTuple):
    """Counts since the last report; `kept` are the episodes that belong in the dataset."""

    episodes: int
    successes: int
    kept: int
    steps: int


Report = Callable[[Progress], None]


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

    def run(
        self, indices: Sequence[int], report: Report, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Run the episodes `indices` and write them to shards; finished ones are saved after an error too."""
        job = self.job
        pending = ShardWriter(job.folder, job.wants)
        seeds = [episode_seed(job.seed, index) for index in indices]
        try:
            for finished in self.episodes(indices, seeds):
                for episode in finished:
                    pending.add(episode)
                    kept = int(job.wants(episode))
                    report(Progress(1, int(episode.success), kept, len(episode)))
                if stop():  # unfinished episodes are dropped
                    break
        finally:
            pending.flush()

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


class WorkerPool:
    """Several workers in processes of their own; the same interface as `Worker`."""

    def __init__(self, job: Job, count: int) -> None:
        registered = job.registered()
        self._members = [spawn(_serve, job, registered) for _ in range(count)]
        self._busy: dict[Connection, Any] = {}

    def run(self, indices: Sequence[int], report: Report) -> None:
        """Divide `indices` among the workers and wait for all.

        After Ctrl-C, until finished ones are saved.
        """
        with _ctrl_c() as pressed:
            # a later round can have fewer episodes than workers: those without one are left alone
            members = self._members[: len(indices)]
            for k, (_, pipe) in enumerate(members):
                # every n-th: shares that differ by one episode at most
                _send(pipe, list(indices[k :: len(members)]))
            self._busy = {pipe: process for process, pipe in members}
            self._listen(report, pressed)
        if pressed.is_set():
            raise KeyboardInterrupt

    def close(self) -> None:
        for process, pipe in self._members:
            pipe.close()  # ends the worker
            process.join(10)
            if process.is_alive():
                process.kill()

    def _listen(self, report: Report, pressed: threading.Event) -> None:
        asked = False
        while self._busy:
            if pressed.is_set() and not asked:
                asked = True
                for running in self._busy:
                    _send(running, None)
            for pipe in wait(list(self._busy), timeout=_REPORT_SECONDS):
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    # the pipe broke: the exit code says more, once the process has ended
                    process = self._busy[pipe]
                    process.join(5)
                    raise how_it_ended(process.exitcode) from None
                if isinstance(message, Progress):
                    report(message)
                elif isinstance(message, Exception):
                    raise message
                else:
                    del self._busy[pipe]


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Set an event on Ctrl-C instead of raising, which could cut a message to a worker in two.

    A second Ctrl-C raises. Only the main thread gets Ctrl-C, and may do this.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def note(signum: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _send(pipe: Connection, message: list[int] | None) -> None:
    """Send to a worker; one that has ended is noticed by `_listen`."""
    with suppress(BrokenPipeError):
        pipe.send(message)


def _serve(pipe: Connection, job: Job, registered: Registered) -> None:
    """Main function of a worker process: receives lists of indices, sends progress and then None."""
    # Ctrl-C of a terminal reaches all processes; only the main one may act on it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        registered.register()
        if job.num_threads:  # read by torch when a policy imports it
            os.environ.setdefault("OMP_NUM_THREADS", str(job.num_threads))
        worker = Worker(job)
        sender = _Sender(pipe)
        while True:
            indices = pipe.recv()
            if indices is not None:
                worker.run(indices, sender.add, stop=pipe.poll)
                sender.send()
                pipe.send(None)
    except (EOFError, BrokenPipeError):
        pass  # the main process has closed the pipe
    except UserError as error:
        pipe.send(error)
    except Exception:  # as text: a traceback does not travel between processes
        pipe.send(RuntimeError("A worker process failed:\n" + traceback.format_exc()))


class _Sender:
    """Sends progress at most every `_REPORT_SECONDS`."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._sum = Progress(0, 0, 0, 0)
        self._sent = 0.0

    def add(self, progress: Progress) -> None:
        self._sum = Progress(*(a + b for a, b in zip(self._sum, progress, strict=True)))
        if time.monotonic() - self._sent > _REPORT_SECONDS:
            self.send()

    def send(self) -> None:
        self._pipe.send(self._sum)
        self._sum, self._sent = Progress(0, 0, 0, 0), time.monotonic()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # at once: nobody waits for this process any more
