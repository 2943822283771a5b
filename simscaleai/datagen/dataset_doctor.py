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

import numpy as np

from simscaleai.array_types import Array, ArrayDict, FloatArray
from simscaleai.datagen.finding import Finding
from simscaleai.datagen.near_duplicates import NearDuplicates
from simscaleai.datagen.outliers import outliers
from simscaleai.datagen.split_shift import split_shifts
from simscaleai.observations import is_image
from simscaleai.storage.episode import OBS
from simscaleai.storage.episodes import EpisodeSource

_LIMIT = 1 - 1e-3  # an action beyond it is at its limit of 1
_SATURATED = 0.95  # of an episode's steps; experts that hurry reach 0.9
_LONG = 10  # steps, below which an episode is not judged by that
_SWITCH = 0.95  # of all steps: such a dimension has two positions, as a gripper
_DARK = 8  # of 255
_SAMPLES = 20_000  # steps that coverage is judged from
_NARROW = 0.02  # of the range that holds 99 % of the values
_UNUSED = 0.1  # of [-1, 1] that an action uses
_GAP = 1.5  # of the usual time between two steps
_TIMES = ("timestamp", "time")  # as recorders of real robots name it


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
        # every k-th step of each episode, so that memory does not grow with the dataset
        self._every = max(1, -(-steps // _SAMPLES))
        # {(problem, remedy): names of episodes}
        self._problems: dict[tuple[str, str], list[str]] = {}
        self._samples: dict[str, list[Array]] = {}
        # (name, share of the steps at the limit (d,), steps) of each episode
        self._saturated: list[tuple[str, FloatArray, int]] = []
        self._near_duplicates = NearDuplicates()
        self._numbers: dict[int, dict[str, float]] = {}
        self._means: dict[int, FloatArray] = {}  # of the actions, (d,)

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
        self._near_duplicates.add(
            name, np.concatenate([vectors[key] for key in sorted(vectors)], axis=1)
        )
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
        found += self._saturation() + self._near_duplicates.findings()
        found += outliers(self._data, self._numbers)
        return found + split_shifts(self._data, self._means, self._action) + self._coverage()

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
        # by steps and not by episodes: short ones are often saturated from start to end
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

    def _coverage(self) -> list[Finding]:
        """Find dimensions that hardly vary, and actions that use little of their range."""
        found = []
        for key, parts in sorted(self._samples.items()):
            if len({part.shape[1] for part in parts}) > 1:
                continue  # which is an error
            values = np.concatenate(parts).astype(np.float64)  # (samples, d)
            # of fewer samples, the outer 1 % is less than one
            if len(values) < 100 or not np.isfinite(values).all():
                continue
            span = np.ptp(values, axis=0)
            # 99 % and not all: a single spike makes the whole range wide
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
