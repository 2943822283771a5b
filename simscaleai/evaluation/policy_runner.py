"""A policy in its environment, ready to run any episodes of a suite.

    runner = PolicyRunner(find_policy_source("runs/a"), EvalSpec(seed=1), num_envs=64)
    for result in runner.run(range(100)):      # as they end; `result.index` is the number in the suite
        ...

Promise: an episode is a function of the policy, the `EvalSpec` and its number alone. It is the same in
whatever env it runs and whatever ran before, so that an evaluation can be resumed, extended, and compared
episode by episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import TracebackType
from typing import Any, Self

from simscaleai import __version__
from simscaleai.evaluation.following import check_requests, fix_instruction
from simscaleai.evaluation.suite import episode_seed, run_suite
from simscaleai.evaluation.summary import Metrics
from simscaleai.json_types import JsonDict
from simscaleai.rollout.env_checks import task_of
from simscaleai.rollout.loop import Recorder
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policies import policy_sha256
from simscaleai.rollout.policy_source import PolicySource
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.task import Task
from simscaleai.sim.vector_env import TaskVectorEnv


@dataclass(frozen=True)
class EvalSpec:
    """Which episodes a policy is evaluated in, however many.

    Attributes:
      env_name: environment; None is the checkpoint's own, or "reach" for policies without one.
      seed: which suite.
      randomize: randomization level; None for none, whatever the data had.
      phrasings: "train" for instructions as in training data, or "held_out".
      instruction: of every episode, which is asked for what the sentence says; None for the task's own.
      every_instruction: each scene is run once for every request of its task; episode m * scene + k is
        asked for request k of m.
      robot: name of a robot; None is the checkpoint's own, or the Panda for policies without one.
      env_kwargs: further fields of `SimConfig`.
    """

    env_name: str | None = None
    seed: int = 0
    randomize: str | None = None
    phrasings: str = "train"
    every_instruction: bool = False
    robot: str | None = None
    env_kwargs: JsonDict = field(default_factory=dict)
    instruction: str | None = None

    @classmethod
    def of(cls, settings: object) -> Self:
        """Return the episodes that settings with attributes of these names ask for; others stay as here."""
        names = [each.name for each in fields(cls) if hasattr(settings, each.name)]
        return cls(**{name: getattr(settings, name) for name in names})

    def source_arguments(self, device: str = "auto") -> tuple[Any, ...]:
        """Return the arguments of `find_policy_source` after the policy, for these episodes."""
        return (self.env_name, self.randomize, device, self.robot, self.env_kwargs)


class PolicyRunner:
    """See the module docstring.

    Args:
      source: the policy, as of `find_policy_source` with `source_arguments` of `spec`.
      spec: which episodes.
      num_envs: number of episodes that run at once.
      prepare: called with the new environment, to change what happens in it.
      num_threads: of the physics; 0 for all cores.

    Attributes:
      env: the environment, without autoreset.

    Raises:
      UserError: the policy does not fit the environment, or the task has no such instructions.
    """

    def __init__(
        self,
        source: PolicySource,
        spec: EvalSpec,
        num_envs: int,
        prepare: Callable[[TaskVectorEnv], None] | None = None,
        num_threads: int = 0,
    ) -> None:
        self.source, self.spec = source, spec
        self.env = make_vec_env(
            source.env_name,
            num_envs,
            autoreset_mode="disabled",
            num_threads=num_threads,
            config=source.config,
        )
        if prepare is not None:
            prepare(self.env)
        # the expert of a task is made from its environment, and so after it
        self._policy = source.policy(self.env)
        if self.task is not None:
            self.task.use_phrasings(spec.phrasings)
        if spec.instruction is not None:
            fix_instruction(self.env, spec.instruction)
        self._requests: Sequence[str | None] = (None,)  # as each seed draws it
        if spec.every_instruction:
            self._requests = check_requests(self.env)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.env.close()

    @property
    def task(self) -> Task | None:
        """Task of the environment; None for a `BaseRobotEnv` of the user's."""
        return task_of(self.env)

    @property
    def episodes_per_scene(self) -> int:
        """Number of episodes that begin in the same scene."""
        return len(self._requests)

    @property
    def stages(self) -> tuple[str, ...]:
        """Failure stages of the task, from the first that an episode can miss to the last."""
        return () if self.task is None else self.task.stages

    def identity(self) -> Metrics:
        """Return what the episodes depend on, as plain values."""
        return {
            **asdict(self.spec),
            "env_name": self.env.contract.env_name,
            "env_config": self.env.contract.env_config,
            "checkpoint_sha256": policy_sha256(self.source.name),
            "version": __version__,  # another one may simulate otherwise
        }

    def run(
        self, indices: Iterable[int], recorders: Sequence[Recorder] = ()
    ) -> Iterator[EpisodeResult]:
        """Run the episodes of these numbers, which may be endless, and yield results as they end."""
        if not self.spec.every_instruction:
            yield from self._run(indices, 1, recorders)
            return
        assert self.task is not None  # it has requests
        # the whole list at once, as each request goes through it
        wanted, m = list(indices), len(self._requests)
        # all envs that begin an episode are asked for the same, so one request follows the other
        for k, request in enumerate(self._requests):
            self.task.ask(request)
            yield from self._run([i for i in wanted if i % m == k], m, recorders)
        self.task.ask(None)

    def _run(
        self, indices: Iterable[int], m: int, recorders: Sequence[Recorder]
    ) -> Iterator[EpisodeResult]:
        begun: list[int] = []  # by their position in the loop, which numbers them anew

        def seeds() -> Iterator[int]:
            for index in indices:
                begun.append(index)
                yield episode_seed(self.spec.seed, index // m)

        for result in run_suite(self.env, self._policy, seeds(), recorders=recorders):
            yield replace(result, index=begun[result.index])
