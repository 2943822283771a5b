"""What deserves a look in a dataset that is sound: each finding names its episodes and a remedy.

    doctor = DatasetDoctor(data)
    for i in range(len(data)):
        doctor.add(i, {key: data.read(i, key) for key in data.keys(i)})
    for finding in doctor.findings():
        print(finding)

Every check states its threshold. They are heuristics: a finding is a question to the person who recorded the
data, not an error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simscaleai.array_types import Array, ArrayDict, FloatArray
from simscaleai.observations import is_image
from simscaleai.storage.episode import OBS
from simscaleai.storage.episodes import EpisodeSource

_SHOWN = 5
_LIMIT = 1 - 1e-3  # an action beyond it is at its limit of 1
_SATURATED = 0.95  # of an episode's steps; experts that hurry reach 0.9
_LONG = 10  # steps, below which an episode is not judged by that
_SWITCH = 0.95  # of all steps: such a dimension has two positions, as a gripper
_DARK = 8  # of 255
_SAMPLES = 20_000  # steps that coverage is judged from
_NARROW = 0.02  # of the range that holds 99 % of the values
_UNUSED = 0.1  # of [-1, 1] that an action uses
_POINTS = 8  # of an episode that are compared with those of others
_NEAR = 1e-2  # distance of every point of nearly equal episodes, in the units of the data
_OUTLIER = 8.0  # robust standard deviations from the median
_FEW = 20  # episodes, below which none is an outlier and no shift is found
_SHIFT, _SHIFT_ERRORS = 0.5, 4.0  # in standard deviations, and in standard errors
_GAP = 1.5  # of the usual time between two steps
_TIMES = ("timestamp", "time")
_MAD = 1.4826  # standard deviations of a normal distribution in a median absolute deviation


@dataclass(frozen=True)
class Finding:
    """Something that deserves a look.

    Attributes:
      problem: in a clause.
      episodes: names of the episodes that have it; empty if it is about the whole dataset.
      remedy: in a clause.
    """

    problem: str
    episodes: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        shown = ", ".join(self.episodes[:_SHOWN])
        count = len(self.episodes)
        if count > 1:
            shown = f"{count} episodes: {shown}" + (", ..." if count > _SHOWN else "")
        return f"{self.problem}{f' ({shown})' if shown else ''}; {self.remedy}"


class DatasetDoctor:
    """Examines the episodes of a dataset, one after the other.

    Args:
      data: the open dataset.
    """

    def __init__(self, data: EpisodeSource) -> None:
        self._data = data
        # actions of an environment with a contract are in [-1, 1]; others have no known limit
        self._bounded = data.contract is not None
        self._names: tuple[str, ...] = data.contract.action_names if data.contract else ()
        steps = sum(episode.length for episode in data.episodes)
        self._every = max(1, -(-steps // _SAMPLES))
        self._problems: dict[tuple[str, str], list[str]] = {}
        self._samples: dict[str, list[Array]] = {}
        self._saturated: list[tuple[str, FloatArray, int]] = []
        self._points: dict[tuple[int, ...], list[tuple[str, FloatArray]]] = {}
        self._numbers: dict[int, dict[str, float]] = {}
        self._means: dict[int, FloatArray] = {}

    def add(self, i: int, arrays: ArrayDict) -> None:
        """Examine episode i; arrays of other shapes than a dataset has are left out."""
        actions = arrays.get("actions")
        if actions is None or actions.ndim != 2 or not actions.size or actions.dtype.kind != "f":
            return
        name = self._data.episodes[i].name
        vectors = {
            key: value.reshape(len(value), -1)
            for key, value in arrays.items()
            if (key.startswith(OBS) or key == "actions")
            and len(value) == len(actions)
            and not is_image(key.removeprefix(OBS), value.shape[1:], value.dtype)
        }
        for key, value in vectors.items():
            self._samples.setdefault(key, []).append(value[:: self._every])
            if key.removeprefix(OBS) in _TIMES:
                self._time(value[:, 0], name)
        for key, value in arrays.items():
            if (
                key.startswith(OBS)
                and key not in vectors
                and value.dtype == np.uint8
                and value.size
            ):
                self._images(key.removeprefix(OBS), value, actions, name)
        if self._bounded and len(actions) >= _LONG:
            self._saturated.append((name, (np.abs(actions) >= _LIMIT).mean(axis=0), len(actions)))
        self._compare(name, np.concatenate([vectors[key] for key in sorted(vectors)], axis=1))
        self._means[i] = actions.mean(axis=0, dtype=np.float64)
        self._numbers[i] = {"length": float(len(actions))}
        if "rewards" in arrays and arrays["rewards"].ndim == 1:
            self._numbers[i]["return"] = float(arrays["rewards"].sum(dtype=np.float64))

    def findings(self) -> list[Finding]:
        """Return what was found in all episodes so far."""
        found = [
            Finding(problem, tuple(names), remedy)
            for (problem, remedy), names in self._problems.items()
        ]
        found += self._saturation() + self._near_duplicates() + self._outliers()
        return found + self._shifts() + self._coverage()

    def _note(self, problem: str, remedy: str, name: str) -> None:
        self._problems.setdefault((problem, remedy), []).append(name)

    def _time(self, times: Array, name: str) -> None:
        passed = np.diff(times.astype(np.float64))
        if len(passed) > 2 and passed.max() > _GAP * np.median(passed):
            self._note(
                "time has gaps: steps are missing",
                "split these episodes at the gaps, or leave them out",
                name,
            )

    def _images(self, camera: str, frames: Array, actions: Array, name: str) -> None:
        """Note a camera that shows nothing, or always the same."""
        if frames.max() < _DARK or frames.min() == frames.max():
            self._note(
                f"{camera!r} is black or of one color",
                "check the camera and its lights, and render again with `simscale render`",
                name,
            )
        # a robot that is told to stay may well look the same
        elif len(frames) > 3 and np.ptp(actions, axis=0).max() > 0 and (frames == frames[0]).all():
            self._note(
                f"{camera!r} is frozen: every frame is the same",
                "check that frames are read anew at each step, and record again",
                name,
            )

    def _saturation(self) -> list[Finding]:
        if not self._saturated:
            return []
        shares = np.stack([share for _, share, _ in self._saturated])  # (episodes, d)
        steps = np.array([count for _, _, count in self._saturated])
        overall = steps @ shares / steps.sum()
        found = []
        for k in np.flatnonzero(overall < _SWITCH):
            names = [self._saturated[e][0] for e in np.flatnonzero(shares[:, k] > _SATURATED)]
            if names:
                found.append(
                    Finding(
                        f"actions are saturated: {self._action(int(k))} is at its limit in more than"
                        f" {100 * _SATURATED:.0f} % of the steps",
                        tuple(names),
                        "the controller cannot follow: record with slower motions or a larger control_dt",
                    )
                )
        return found

    def _action(self, k: int) -> str:
        return self._names[k] if k < len(self._names) else f"dimension {k}"

    def _compare(self, name: str, vectors: Array) -> None:
        """Remember some points of an episode; nearly equal episodes share a cell of a coarse grid."""
        at = np.linspace(0, len(vectors) - 1, _POINTS).round().astype(int)
        points = vectors[at].astype(np.float64)  # (points, d)
        # two grids, so that two neighbors are in one cell of at least one of them
        for shift in (0.0, 0.5):
            cell = np.floor(points[0] / (10 * _NEAR) + shift)
            key = (int(2 * shift), *np.nan_to_num(cell, posinf=0, neginf=0).astype(int).tolist())
            self._points.setdefault(key, []).append((name, points))

    def _near_duplicates(self) -> list[Finding]:
        copies: dict[str, str] = {}
        for members in self._points.values():
            for k, (name, points) in enumerate(members):
                for other, its_points in members[max(0, k - 50) : k]:
                    if points.shape != its_points.shape or name in copies:
                        continue
                    distance = np.abs(points - its_points).max()
                    if 0 < distance < _NEAR:  # an exact copy is a warning of its own
                        copies[name] = other
        if not copies:
            return []
        return [
            Finding(
                "episodes are nearly the same as an earlier one",
                tuple(f"{name} like {other}" for name, other in copies.items()),
                "generate with other seeds or more randomization, or leave them out by `simscale data"
                " filter`",
            )
        ]

    def _outliers(self) -> list[Finding]:
        if len(self._numbers) < _FEW:
            return []
        found = []
        for quantity in ("length", "return"):
            known = {i: n[quantity] for i, n in self._numbers.items() if quantity in n}
            values = np.array(list(known.values()))
            if not len(values):
                continue
            distance = np.abs(values - np.median(values))
            # a step at least, or a tenth of the median: equal episodes have no deviation at all
            scale = max(_MAD * float(np.median(distance)), 0.1 * abs(float(np.median(values))), 1.0)
            names = [
                self._data.episodes[i].name
                for i, d in zip(known, distance, strict=True)
                if d > _OUTLIER * scale
            ]
            if names:
                found.append(
                    Finding(
                        f"the {quantity} is far from that of the other episodes",
                        tuple(names),
                        "look at them with `simscale viz-trajectory`, or leave them out by `simscale data"
                        " filter`",
                    )
                )
        return found

    def _shifts(self) -> list[Finding]:
        """Compare the actions and the instructions of training and validation."""
        if self._data.masks.problems():  # which are errors
            return []
        train, valid = (
            [i for i in self._data.split(name) if i in self._means] for name in ("train", "valid")
        )
        remedy = "split again with `simscale data split`, unless it is meant so"
        found = []
        taught = {self._data.episodes[i].language for i in train}
        names = [
            self._data.episodes[i].name
            for i in valid
            if self._data.episodes[i].language not in taught
        ]
        if names and len(train) >= _FEW:
            problem = "validation has instructions that training does not have"
            found.append(Finding(problem, tuple(names), remedy))
        if min(len(train), len(valid)) < _FEW // 2:
            return found
        a, b = (np.stack([self._means[i] for i in part]) for part in (train, valid))  # (n, d)
        if a.shape[1:] != b.shape[1:]:
            return found
        difference = np.abs(a.mean(axis=0) - b.mean(axis=0))
        error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
        size = difference / np.maximum(np.sqrt((a.var(axis=0) + b.var(axis=0)) / 2), 1e-9)
        for k in np.flatnonzero((size > _SHIFT) & (difference > _SHIFT_ERRORS * error)):
            problem = (
                f"actions of training and validation differ: the mean of {self._action(int(k))} by"
                f" {size[k]:.1f} standard deviations of an episode"
            )
            found.append(Finding(problem, (), remedy))
        return found

    def _coverage(self) -> list[Finding]:
        """Find dimensions that hardly vary, and actions that use little of their range."""
        found = []
        for key, parts in sorted(self._samples.items()):
            if len({part.shape[1] for part in parts}) > 1:
                continue  # which is an error
            values = np.concatenate(parts).astype(np.float64)  # (samples, d)
            if len(values) < 100 or not np.isfinite(values).all():
                continue
            span = np.ptp(values, axis=0)
            low, high = np.quantile(values, [0.005, 0.995], axis=0)
            narrow = np.flatnonzero((span > 0) & (high - low < _NARROW * span))
            if len(narrow):
                found.append(
                    Finding(
                        f"{key}: dimension {', '.join(map(str, narrow))} hardly varies: 99 % of its"
                        f" values are in {100 * _NARROW:.0f} % of its range",
                        (),
                        "look for spikes, or record more of that range",
                    )
                )
            if key == "actions" and self._bounded:
                found += self._unused(span)
        return found

    def _unused(self, span: Array) -> list[Finding]:
        """Find entries of an action that use little of [-1, 1]."""
        small = np.flatnonzero((span > 0) & (span < _UNUSED * 2))
        return [
            Finding(
                f"actions cover little: {self._action(int(k))} uses {50 * span[k]:.0f} % of [-1, 1]",
                (),
                "record with noise (`--noise`) or more randomization, if the policy shall recover from there",
            )
            for k in small
        ]
