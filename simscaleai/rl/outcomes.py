"""What the infos of running episodes showed: success, failure stage and group of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simscaleai.infos import read_success
from simscaleai.sim.task import Task

DIVERGED = "diverged"
"""The stage of episodes that ended since their physics became unstable, of any environment that says so in
its info; they are failures, whatever came before."""


class Outcome(NamedTuple):
    """How one episode ended; fields as of `EpisodeResult`."""

    success: bool | None
    success_at_end: bool | None
    stage: str | None
    group: str | None


class Outcomes:
    """Collects the infos of n envs, of a vector environment or of a single one, with or without a `Task`."""

    def __init__(self, n: int, task: Task | None, single: bool = False) -> None:
        self._n, self._task, self._single = n, task, single
        self._seen = Seen(n)
        self._ever, self._now, self._reported = (np.zeros(n, dtype=bool) for _ in range(3))

    def begin(self, info: Mapping[str, Any], mask: NDArray[np.bool_]) -> None:
        """Take in the info of a reset of the envs in `mask` (n,)."""
        for flags in (self._ever, self._now, self._reported):
            flags[mask] = False
        self._add(info, mask)

    def add(self, info: Mapping[str, Any]) -> None:
        """Take in the info of a step."""
        self._add(info, np.zeros(self._n, dtype=bool))

    def _add(self, info: Mapping[str, Any], fresh: NDArray[np.bool_]) -> None:
        self._seen.add(_as_row(info) if self._single else info, fresh)
        self._now, reported = read_success(info, None if self._single else self._n)
        self._ever |= self._now
        self._reported |= reported

    def of(self, rows: NDArray[np.intp]) -> list[Outcome]:
        """How the episodes of some envs ended, which is now."""
        summary, task = self._seen.summary(), self._task
        diverged = summary.get(f"ever_{DIVERGED}", np.zeros(self._n, dtype=bool))
        stages = task.stage(summary) if task is not None else None
        groups = task.group(summary) if task is not None and task.groups else None
        found = []
        for row in rows:
            success: bool | None = bool(self._ever[row])
            at_end: bool | None = bool(self._now[row])
            stage = None
            if diverged[row]:
                success, at_end, stage = False, False, DIVERGED
            elif not self._reported[row]:
                success = at_end = None
            if task is not None and stages is not None and not success:
                stage = stage or task.stages[stages[row]]
            group = task.groups[groups[row]] if task is not None and groups is not None else None
            found.append(Outcome(success, at_end, stage, group))
        return found


class Seen:
    """What the infos of n running episodes showed so far.

    `summary()` gives {key: last value, "ever_<flag>": whether it was ever up, "min_<number>": the
    smallest}, each (n,).
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._last: dict[str, NDArray[Any]] = {}
        self._best: dict[str, NDArray[Any]] = {}

    def add(self, info: Mapping[str, Any], fresh: NDArray[np.bool_]) -> None:
        """Take in the infos {key: (n,)} of a step; rows in `fresh` (n,) bool begin with it."""
        for key, value in info.items():
            if key.startswith("_") or not isinstance(value, np.ndarray):
                continue
            if value.shape != (self.n,) or value.dtype.kind not in "bif":
                continue
            flag = value.dtype.kind == "b"
            name = ("ever_" if flag else "min_") + key
            old = self._best.get(name, value)
            best = (old | value) if flag else np.minimum(old, value)
            self._best[name] = np.where(fresh, value, best)
            self._last[key] = value.copy()

    def summary(self) -> dict[str, NDArray[Any]]:
        return {**self._last, **self._best}


def _as_row(info: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    return {
        k: np.array([v]) for k, v in info.items() if isinstance(v, bool | int | float | np.bool_)
    }
