"""Check what no single episode shows: actions of all episodes, the contract, splits and copies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simscaleai.actions import ActionRange
from simscaleai.datagen.episode_checks import EpisodeChecks
from simscaleai.datagen.index_check import index_is_true
from simscaleai.datagen.manifest_check import manifest_problems
from simscaleai.errors import UserError
from simscaleai.observations import image_problem, is_image, state_problem
from simscaleai.storage.episode import LABELS, OBS
from simscaleai.storage.episode_file import open_file
from simscaleai.storage.episodes import EpisodeFile, ShardedDataset
from simscaleai.storage.split_masks import SPLITS

_OTHER_PICTURES = ("depth", "segmentation")  # which are for models that say so
_FALSE_INDEX = "the index of the file is not true: copy it with h5repack, or generate it again"


class DatasetChecks:
    """Checks a dataset whose episodes `episodes` has checked."""

    def __init__(self, episodes: EpisodeChecks) -> None:
        self.data, self.problems = episodes.data, episodes.problems
        self.shapes, self.ranges = episodes.shapes, episodes.ranges

    def run(self, checksums: Mapping[int, str]) -> None:
        """Check everything; `checksums` are those of the episodes that could be read."""
        self._duplicates(checksums)
        self._observations()
        self._actions()
        self._labels()
        self._constant()
        self._contract()
        self._masks()
        # both read the files once more, which tells nothing new of a damaged dataset
        if not self.problems.errors:
            self._index()
        if not self.problems.errors and isinstance(self.data, ShardedDataset):
            for problem, shard in manifest_problems(self.data):
                self.problems.error(problem, shard)

    def _observations(self) -> None:
        """Check that models can read the observations, by the rules of training."""
        for key, (shape, dtype) in sorted(self.shapes.items()):
            name = key.removeprefix(OBS)
            if not key.startswith(OBS):
                continue
            if not is_image(name, shape, dtype):
                if problem := state_problem(name, shape):
                    self.problems.error(problem)
            elif not name.startswith(_OTHER_PICTURES) and (
                problem := image_problem(name, shape, dtype)
            ):
                self.problems.warning(f"{problem}: no model reads it")

    def _actions(self) -> None:
        """Check that there are actions, and their range, by the rules of training."""
        if "actions" not in self.ranges:
            # other errors say already why no action could be read
            if not self.problems.errors:
                self.problems.error("there is no episode with a step")
            return
        low, high = self.ranges["actions"]
        if low.ndim != 1 or not low.size:
            self.problems.error(f"an action has shape {low.shape}; expected a vector")
            return
        try:
            actions = ActionRange.recorded(low, high, self.data.contract)
        except UserError as error:
            self.problems.error(str(error))
            return
        if actions is not None:
            self.problems.warning(
                f"actions leave [-1, 1]: training normalizes them, and acts within {actions}"
            )

    def _labels(self) -> None:
        """Check that there is an action for each instruction of the contract."""
        contract = self.data.contract
        if LABELS not in self.shapes or contract is None:
            return
        count, width = len(contract.instructions), contract.action_dim
        shape = self.shapes[LABELS][0]
        if shape != (count, width):
            self.problems.error(
                f"{LABELS} has steps of {shape}; expected {count} instructions x {width} entries"
            )
        elif (
            LABELS in self.ranges
            and max(-self.ranges[LABELS][0].min(), self.ranges[LABELS][1].max()) > 1
        ):
            self.problems.error(f"{LABELS} leaves [-1, 1]")

    def _constant(self) -> None:
        """Name what never changes in any episode: a disconnected sensor looks like that."""
        for key, (low, high) in sorted(self.ranges.items()):
            if not key.startswith(OBS) and key != "actions":
                continue
            still = np.flatnonzero(np.atleast_1d(low == high))
            if len(still):
                which = ", ".join(map(str, still))
                self.problems.warning(f"{key}: dimension {which} never changes")

    def _contract(self) -> None:
        contract = self.data.contract
        if contract is None:
            self.problems.warning("env_args names no environment contract")
            return
        for key, shape in contract.obs_shapes.items():
            found = self.shapes.get(OBS + key)
            if found is None:
                self.problems.error(f"the observation {key!r} of the contract is missing")
            elif found[0] != shape or found[1] != contract.obs_dtypes.get(key, found[1]):
                self.problems.error(f"obs/{key} is {found}, and the contract says {shape}")

    def _masks(self) -> None:
        steps = sum(e.length for e in self.data.episodes)
        try:
            total = self.data.attribute("total", steps)
        except UserError as error:
            self.problems.warning(str(error))
            total = steps  # an attribute that cannot be read is named once, as such
        if total != steps:
            self.problems.error(f"the attribute total is {total}, but there are {steps} steps")
        masks = self.data.masks
        for problem in masks.problems():
            self.problems.error(problem)
        for name in masks.names:
            missing = masks.read(name)[1]
            # of train and valid, `problems` has named what is missing: training reads those two
            if missing and name not in SPLITS:
                self.problems.warning(f"mask/{name} names {missing[0]!r}, which is not there")
        if not any(name in SPLITS for name in masks.names):
            self.problems.warning("there is no split into train and valid")

    def _duplicates(self, checksums: Mapping[int, str]) -> None:
        first: dict[str, int] = {}
        for i, checksum in checksums.items():
            # all empty episodes are equal, and have a warning of their own
            if self.data.episodes[i].length and first.setdefault(checksum, i) != i:
                twin = self.data.episodes[first[checksum]].name
                what = f"an episode is a copy of {twin}"
                self.problems.warning(what, self.data.episodes[i].name)

    def _index(self) -> None:
        """Check that the index of each file, if it is used, agrees with HDF5."""
        if isinstance(self.data, EpisodeFile) and not index_is_true(self.data):
            self.problems.error(_FALSE_INDEX)
        if isinstance(self.data, ShardedDataset):
            for shard in range(len(self.data.rows)):
                path = self.data.shard_path(shard)
                with open_file(path, use_index=False) as file:
                    if not index_is_true(file):
                        self.problems.error(_FALSE_INDEX, path.name)
