"""Check one episode of a dataset after the other, and remember what the whole is judged by."""

from __future__ import annotations

import numpy as np

from simscaleai.array_types import Array, ArrayDict
from simscaleai.datagen.continuity import Continuity
from simscaleai.datagen.dataset_doctor import DatasetDoctor
from simscaleai.datagen.problems import Problems
from simscaleai.observations import is_image
from simscaleai.storage.episode import OBS, array_checksum
from simscaleai.storage.episodes import EpisodeSource

_REQUIRED = ("actions", "rewards")


class EpisodeChecks:
    """Checks episodes.

    Attributes:
      shapes: {key: (shape of a step, dtype)} of the first episode with steps.
      ranges: {key: (smallest, largest)} of all episodes so far, for what is no image.
      doctor: has examined the episodes before the first error.
    """

    def __init__(self, data: EpisodeSource, problems: Problems) -> None:
        self.data, self.problems = data, problems
        self.shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self.ranges: dict[str, tuple[Array, Array]] = {}
        self.doctor = DatasetDoctor(data)
        self._continuity = Continuity(data.contract)

    def check(self, i: int, name: str) -> str:
        """Check one episode; return its checksum."""
        data = self.data
        # whole arrays: one episode at a time is in memory, however large the dataset
        arrays = {key: data.read(i, key) for key in data.keys(i)}
        for key in _REQUIRED:
            if key not in arrays:
                # imitation learns without rewards, and nothing without actions
                note = self.problems.error if key == "actions" else self.problems.warning
                note(f"{key} are missing", name)
        if self.data.episodes[i].length and not any(key.startswith(OBS) for key in arrays):
            self.problems.error("there are no observations", name)
        self._layout(arrays, name)
        self._states(arrays.get("states"), name)
        for key, value in arrays.items():
            # the range of NaN is NaN, which would hide the range of all other episodes
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                self.problems.error(f"{key} has NaN or infinite values", name)
            elif not is_image(key.removeprefix(OBS), value.shape[1:], value.dtype) and len(value):
                self._extend(key, value)
        actions = arrays.get("actions")
        if actions is not None and len(actions) == 0:
            self.problems.warning("there are no steps: the episode is left out", name)
        dones = arrays.get("dones")
        if dones is not None and (dones[:-1].any() or not dones[-1:].all()):
            self.problems.error("dones are not up at the last step, and only there", name)
        # the doctor asks about sound data only, and its findings are dropped after any error
        if not self.problems.errors:
            self.doctor.add(i, arrays)
        checksum = array_checksum(arrays)
        stored = data.episode_attribute(i, "checksum")
        if stored is not None and stored != checksum:
            self.problems.error("the content differs from the checksum stored with it", name)
        return checksum

    def _layout(self, arrays: ArrayDict, name: str) -> None:
        """Check that every episode has the arrays of the first, with the same shape per step and dtype."""
        layout = {key: (value.shape[1:], value.dtype.name) for key, value in arrays.items()}
        if not len(arrays.get("actions", ())):
            return  # tools leave most arrays of an empty episode out
        self.shapes = self.shapes or layout
        for key in sorted(layout.keys() ^ self.shapes.keys()):
            self.problems.error(f"{key} is in some episodes and not in others", name)
        for key in sorted(layout.keys() & self.shapes.keys()):
            if layout[key] != self.shapes[key]:
                self.problems.error(f"{key} is {layout[key]}, but {self.shapes[key]} before", name)

    def _states(self, states: Array | None, name: str) -> None:
        """Check that each state follows from the one before."""
        if states is None:
            return
        error = self._continuity.error(states)
        if error is not None:
            self.problems.error(error, name)
        elif self._continuity.jumps(states):
            what = "states jump: a joint moves further in one step than its speed explains"
            self.problems.warning(what, name)

    def _extend(self, key: str, value: Array) -> None:
        low, high = value.min(axis=0), value.max(axis=0)
        if key in self.ranges and self.ranges[key][0].shape == low.shape:
            low = np.minimum(low, self.ranges[key][0])
            high = np.maximum(high, self.ranges[key][1])
        self.ranges[key] = low, high
