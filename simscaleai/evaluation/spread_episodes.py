"""Run the episodes of an evaluation on an executor, in chunks; only their results travel.

    for result in spread(EpisodeTask(...), executor):        # in the order in which chunks are done
        ...

An episode is a function of the policy, the `EvalSpec` and its number: the results are those of one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.executors import Executor
from simscaleai.executors.kept import Kept
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_source import PolicySource, find_policy_source
from simscaleai.rollout.registered import Registered


@dataclass(frozen=True)
class EpisodeTask:
    """Runs the chunks of an evaluation; it travels to workers.

    Attributes:
      policy: as of `find_policy_source`; paths are absolute.
      spec: which episodes.
      device: where a checkpoint's model runs.
      num_envs: episodes that run at once.
      registered: what the caller has registered and the policy or its environment needs.
      chunks: numbers of the episodes of each item, at most `num_envs`.
    """

    policy: str
    spec: EvalSpec
    device: str
    num_envs: int
    registered: Registered
    chunks: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls,
        source: PolicySource,
        spec: EvalSpec,
        device: str,
        num_envs: int,
        indices: Sequence[int],
    ) -> EpisodeTask:
        """Return the task for some episodes of a suite, `num_envs` in a chunk."""
        # workers may have another working directory; other policies have names that are no paths
        name = source.name
        name = str(Path(name).absolute()) if Path(name).exists() else name
        starts = range(0, len(indices), num_envs)
        chunks = tuple(tuple(indices[start : start + num_envs]) for start in starts)
        registered = Registered.of(source.env_name, source.config.controller, source.name)
        return cls(name, spec, device, num_envs, registered, chunks)

    def __call__(self, item: int) -> list[EpisodeResult]:
        """Run a chunk in this process."""
        self.registered.register()
        runner = _runner.get(replace(self, chunks=()))  # the same for all parts
        return list(runner.run(self.chunks[item]))


def spread(task: EpisodeTask, executor: Executor) -> Iterator[EpisodeResult]:
    """Yield the results of all chunks; the workers end with the iterator."""
    try:
        for results in executor.run(task, range(len(task.chunks))):
            yield from results
    finally:
        executor.close()
        _runner.close()  # a later call may find another checkpoint at the same path


def _make_runner(task: EpisodeTask) -> PolicyRunner:
    source = find_policy_source(task.policy, *task.spec.source_arguments(task.device))
    # the executor's limit holds for physics as for other libraries
    threads = os.environ.get("OMP_NUM_THREADS", "")
    num_threads = int(threads) if threads.isdecimal() else 0
    return PolicyRunner(source, task.spec, task.num_envs, num_threads=num_threads)


# of this process: policy and environment serve all chunks of a task
_runner: Kept[EpisodeTask, PolicyRunner] = Kept(_make_runner, lambda runner: runner.env.close())
