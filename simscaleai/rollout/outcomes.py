"""Record success, failure stage and category of each episode, read from the infos of its steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from simscaleai.array_types import ArrayDict, BoolArray
from simscaleai.infos import read_success
from simscaleai.rollout.gym_types import Info
from simscaleai.rollout.loop import Recorder, Rollout

DIVERGED = "diverged"
"""Stage of episodes whose physics became unstable, in any environment that reports it in its info. They are
failures, even after a success."""

RIGHT, WRONG, NONE = "right", "wrong", "none"
APPROACHES = (RIGHT, WRONG, NONE)


@dataclass(frozen=True)
class EpisodeResult:
    """Outcome of one episode.

    Attributes:
      index: its number in the suite.
      seed: the seed of the reset.
      success: whether it succeeded at any step; None if the environment never said.
      success_at_end: whether it was a success at its last step; None if the environment never said.
      reward: sum of rewards.
      length: control steps.
      stage: the stage at which it failed, one of the task's `stages`, or `DIVERGED`; None for a success or a
        task without stages.
      category: one of the task's `categories`; None for a task without.
      instruction: what the policy was asked to do.
      approached: which object the hand came near to first, one of `APPROACHES`; None if the environment's
        info does not have both "wanted" and "approached", as `sim.tasks.instructed` describes them.
    """

    index: int
    seed: int
    success: bool | None
    success_at_end: bool | None
    reward: float
    length: int
    stage: str | None
    category: str | None = None
    instruction: str = ""
    approached: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the attributes by name."""
        return asdict(self)


class OutcomeRecorder(Recorder):
    """Summarizes each episode of any environment, with or without a `Task`.

    Attributes:
      finished: results of the episodes that ended with the newest step.
    """

    def __init__(self) -> None:
        self.finished: list[EpisodeResult] = []
        self._infos: InfoSummary | None = None

    def begin(self, rollout: Rollout) -> None:
        self.finished = []
        if self._infos is None:  # at the first reset, when the number of envs is known
            n = rollout.num_envs
            self._infos = InfoSummary(n)
            self._ever, self._now, self._reported = (np.zeros(n, dtype=bool) for _ in range(3))
            self._return = np.zeros(n)
            self._no_env = np.zeros(n, dtype=bool)
        mask = rollout.begun
        for flags in (self._ever, self._now, self._reported):
            flags[mask] = False
        self._return[mask] = 0.0
        self._read(rollout, mask)

    def after_step(self, rollout: Rollout) -> None:
        self._return += rollout.reward  # undiscounted
        self._read(rollout, self._no_env)
        self.finished = self._results(rollout) if len(rollout.ended) else []

    def _read(self, rollout: Rollout, begun: BoolArray) -> None:
        """Add the present info; envs in `begun` (n,) bool start their episode with it."""
        assert self._infos is not None
        single, info = rollout.env.single, rollout.info
        self._infos.add(_as_batch(info) if single else info, begun)
        self._now, reported = read_success(info, None if single else rollout.num_envs)
        self._ever |= self._now
        self._reported |= reported

    def _results(self, rollout: Rollout) -> list[EpisodeResult]:
        """Return the results of the envs in `rollout.ended`."""
        assert self._infos is not None
        summary, task = self._infos.summary(), rollout.env.task
        diverged = summary.get(f"ever_{DIVERGED}", self._no_env)
        stages = task.stage(summary) if task is not None else None
        categories = task.category(summary) if task is not None and task.categories else None
        approached = _approached(summary)
        results = []
        for env_id in map(int, rollout.ended):
            success: bool | None = bool(self._ever[env_id])
            at_end: bool | None = bool(self._now[env_id])
            stage = category = None
            if diverged[env_id]:  # what came before cannot be trusted either
                success, at_end, stage = False, False, DIVERGED
            elif not self._reported[env_id]:  # an info without success is no failure
                success = at_end = None
            if task is not None and stages is not None and not success:
                stage = stage or task.stages[stages[env_id]]
            if task is not None and categories is not None:
                category = task.categories[categories[env_id]]
            results.append(
                EpisodeResult(
                    index=int(rollout.episode[env_id]),
                    seed=rollout.seeds[env_id],
                    success=success,
                    success_at_end=at_end,
                    reward=float(self._return[env_id]),
                    length=int(rollout.length[env_id]),
                    stage=stage,
                    category=category,
                    instruction=rollout.instructions[env_id] if rollout.instructions else "",
                    approached=approached[env_id] if approached is not None else None,
                )
            )
        return results


class InfoSummary:
    """Summarizes the infos of n running episodes.

    `summary()` returns {key: last value, "ever_<flag>": whether it was true at any step, "min_<number>": the
    smallest value}, each (n,).
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._last: ArrayDict = {}
        self._best: ArrayDict = {}

    def add(self, info: Info, begun: BoolArray) -> None:
        """Add the infos {key: (n,)} of a step; envs in `begun` (n,) bool start their episode with it."""
        for key, value in info.items():
            if key.startswith("_") or not isinstance(value, np.ndarray):
                continue
            if value.shape != (self.n,) or value.dtype.kind not in "bif":
                continue
            # numbers are mostly distances, whose smallest value says how far the episode came
            flag = value.dtype.kind == "b"
            name = ("ever_" if flag else "min_") + key
            old = self._best.get(name, value)
            best = (old | value) if flag else np.minimum(old, value)
            self._best[name] = np.where(begun, value, best)
            self._last[key] = value.copy()  # environments may reuse the array

    def summary(self) -> ArrayDict:
        """Return the summary of all infos so far."""
        return {**self._last, **self._best}


def _approached(summary: ArrayDict) -> list[str] | None:
    """Return for each of n envs one of `APPROACHES`; None if the infos do not say it."""
    if "wanted" not in summary or "approached" not in summary:
        return None
    first, wanted = summary["approached"], summary["wanted"]  # (n,) each
    return list(np.where(first < 0, NONE, np.where(first == wanted, RIGHT, WRONG)).tolist())


def _as_batch(info: Info) -> ArrayDict:
    """Return the flags and numbers of a single environment's info as those of one env, (1,) each."""
    return {
        k: np.array([v]) for k, v in info.items() if isinstance(v, bool | int | float | np.bool_)
    }
