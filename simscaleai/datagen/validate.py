"""Check a dataset: report all problems at once, and hash its content.

    report = validate_dataset("data/reach.h5")
    if not report.ok:
        print("\\n".join(report.errors))

Errors are what breaks training or cannot be right: missing or misshapen arrays, NaN, actions out of
bounds, time that runs back, content that differs from the checksum stored when it was written. Warnings
are what deserves a look: a dimension that never changes, the same episode twice, a state that jumps. Findings
are the questions of `dataset_doctor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simscaleai.actions import ActionRange
from simscaleai.array_types import Array, ArrayDict
from simscaleai.datagen.continuity import Continuity
from simscaleai.datagen.dataset_doctor import DatasetDoctor, Finding
from simscaleai.datagen.manifest_check import manifest_problems
from simscaleai.errors import UserError
from simscaleai.observations import image_problem, is_image, state_problem
from simscaleai.storage.episode import (
    IDENTITY,
    LABELS,
    OBS,
    array_checksum,
    combine_digests,
    episode_digest,
)
from simscaleai.storage.episode_file import open_file
from simscaleai.storage.episodes import EpisodeFile, EpisodeSource, ShardedDataset, open_dataset
from simscaleai.storage.split_masks import SPLITS

_SHOWN = 5
_OTHER_PICTURES = ("depth", "segmentation")  # which are for models that say so
_REQUIRED = ("actions", "rewards")
_FALSE_INDEX = "the index of the file is not true: copy it with h5repack, or generate it again"


@dataclass
class Report:
    """What `validate_dataset` found.

    Attributes:
      path: the file.
      episodes, steps: how much was read.
      successes: episodes marked as successful.
      content_hash: of what was read; "" if something could not be read.
      errors, warnings: one sentence each; `ok` is that there are no errors.
      findings: what the doctor asks about a sound dataset; see `dataset_doctor`.
    """

    path: str
    episodes: int = 0
    steps: int = 0
    successes: int = 0
    content_hash: str = ""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.errors


def content_hash(path: str | Path) -> str:
    """Return a hash of what a dataset holds: values, attributes and splits of its episodes.

    It does not depend on the order or the names of the episodes, nor on compression and chunks.
    """
    with open_dataset(path) as data:
        checksums = [data.checksum(i) for i in range(len(data))]
        return _content_hash(data, checksums)


def validate_dataset(path: str | Path) -> Report:
    """Read a whole dataset, a file or a folder of shards, and report everything that is wrong with it.

    Raises:
      UserError: the file is missing, no dataset at all, or refused for safety.
    """
    with open_dataset(path, use_index=False) as data:
        return _Validation(data).run()


class _Validation:
    """One pass over a file; collects the episodes that have each problem."""

    def __init__(self, data: EpisodeSource) -> None:
        self.data = data
        self.errors: dict[str, list[str]] = {}
        self.warnings: dict[str, list[str]] = {}
        self.shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self.ranges: dict[str, tuple[Array, Array]] = {}
        self.continuity = Continuity(data.contract)
        self.doctor = DatasetDoctor(data)

    def run(self) -> Report:
        data = self.data
        checksums: dict[int, str] = {}
        for i, episode in enumerate(data.episodes):
            try:
                checksums[i] = self._episode(i, episode.name)
            except UserError as error:
                self._error(str(error), episode.name)
        self._duplicates(checksums)
        self._observations()
        self._actions()
        self._labels()
        self._constant()
        self._contract()
        self._masks()
        if not self.errors:
            self._index()
        if not self.errors and isinstance(data, ShardedDataset):
            for problem, shard in manifest_problems(data):
                self._error(problem, shard)
        complete = len(checksums) == len(data)
        found = _content_hash(data, [*checksums.values()]) if complete and not self.errors else ""
        stored = data.attribute("content_hash")
        if found and stored not in (
            None,
            found,
            _content_hash(data, [*checksums.values()], with_path=True),
        ):
            self._changed([*checksums.values()])
        return Report(
            path=str(data.path),
            episodes=len(data),
            steps=sum(e.length for e in data.episodes),
            successes=sum(bool(e.success) for e in data.episodes),
            content_hash=found,
            errors=_sentences(self.errors),
            warnings=_sentences(self.warnings),
            # of a damaged dataset, the errors come first
            findings=[] if self.errors else self.doctor.findings(),
        )

    def _changed(self, checksums: Sequence[str]) -> None:
        """Report changes since the file was hashed.

        A new split is a warning, changed attributes are an error.
        """
        stored = self.data.attribute("episodes_hash")
        if stored is not None and stored == _content_hash(self.data, checksums, {}):
            self.warnings.setdefault("the split is not the one that the file was written with", [])
        else:
            self._error("the content hash differs from the one stored: attributes were changed")

    def _error(self, what: str, name: str = "") -> None:
        self.errors.setdefault(what, []).append(name)

    def _episode(self, i: int, name: str) -> str:
        """Check one episode; return its checksum."""
        data = self.data
        arrays = {key: data.read(i, key) for key in data.keys(i)}
        for key in _REQUIRED:
            if key not in arrays:
                found = self.errors if key == "actions" else self.warnings
                found.setdefault(f"{key} are missing", []).append(name)
        if self.data.episodes[i].length and not any(key.startswith(OBS) for key in arrays):
            self._error("there are no observations", name)
        self._layout(arrays, name)
        self._states(arrays.get("states"), name)
        for key, value in arrays.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                self._error(f"{key} has NaN or infinite values", name)
            elif not is_image(key.removeprefix(OBS), value.shape[1:], value.dtype) and len(value):
                self._extend(key, value)
        actions = arrays.get("actions")
        if actions is not None and len(actions) == 0:
            empty = "there are no steps: the episode is left out"
            self.warnings.setdefault(empty, []).append(name)
        dones = arrays.get("dones")
        if dones is not None and (dones[:-1].any() or not dones[-1:].all()):
            self._error("dones are not up at the last step, and only there", name)
        if not self.errors:
            self.doctor.add(i, arrays)
        checksum = array_checksum(arrays)
        stored = data.episode_attribute(i, "checksum")
        if stored is not None and stored != checksum:
            self._error("the content differs from the checksum stored with it", name)
        return checksum

    def _observations(self) -> None:
        """Check that models can read the observations, by the rules of training."""
        for key, (shape, dtype) in sorted(self.shapes.items()):
            name = key.removeprefix(OBS)
            if not key.startswith(OBS):
                continue
            if not is_image(name, shape, dtype):
                if problem := state_problem(name, shape):
                    self._error(problem)
            elif not name.startswith(_OTHER_PICTURES) and (
                problem := image_problem(name, shape, dtype)
            ):
                self.warnings.setdefault(f"{problem}: no model reads it", [])

    def _actions(self) -> None:
        """Check that there are actions, and their range, by the rules of training."""
        if "actions" not in self.ranges:
            if not self.errors:
                self._error("there is no episode with a step")
            return
        low, high = self.ranges["actions"]
        if low.ndim != 1 or not low.size:
            self._error(f"an action has shape {low.shape}; expected a vector")
            return
        try:
            actions = ActionRange.recorded(low, high, self.data.contract)
        except UserError as error:
            self._error(str(error))
            return
        if actions is not None:
            self.warnings.setdefault(
                f"actions leave [-1, 1]: training normalizes them, and acts within {actions}", []
            )

    def _labels(self) -> None:
        """Check that there is an action for each instruction of the contract."""
        contract = self.data.contract
        if LABELS not in self.shapes or contract is None:
            return
        count, width = len(contract.instructions), contract.action_dim
        shape = self.shapes[LABELS][0]
        if shape != (count, width):
            self._error(
                f"{LABELS} has steps of {shape}; expected {count} instructions x {width} entries"
            )
        elif (
            LABELS in self.ranges
            and max(-self.ranges[LABELS][0].min(), self.ranges[LABELS][1].max()) > 1
        ):
            self._error(f"{LABELS} leaves [-1, 1]")

    def _layout(self, arrays: ArrayDict, name: str) -> None:
        """Check that every episode has the arrays of the first, with the same shape per step and dtype."""
        layout = {key: (value.shape[1:], value.dtype.name) for key, value in arrays.items()}
        if not len(arrays.get("actions", ())):
            return  # tools leave most arrays of an empty episode out
        self.shapes = self.shapes or layout
        for key in sorted(layout.keys() ^ self.shapes.keys()):
            self._error(f"{key} is in some episodes and not in others", name)
        for key in sorted(layout.keys() & self.shapes.keys()):
            if layout[key] != self.shapes[key]:
                self._error(f"{key} is {layout[key]}, but {self.shapes[key]} before", name)

    def _states(self, states: Array | None, name: str) -> None:
        """Check that each state follows from the one before."""
        if states is None:
            return
        error = self.continuity.error(states)
        if error is not None:
            self._error(error, name)
        elif self.continuity.jumps(states):
            what = "states jump: a joint moves further in one step than its speed explains"
            self.warnings.setdefault(what, []).append(name)

    def _extend(self, key: str, value: Array) -> None:
        low, high = value.min(axis=0), value.max(axis=0)
        if key in self.ranges and self.ranges[key][0].shape == low.shape:
            low = np.minimum(low, self.ranges[key][0])
            high = np.maximum(high, self.ranges[key][1])
        self.ranges[key] = low, high

    def _duplicates(self, checksums: Mapping[int, str]) -> None:
        first: dict[str, int] = {}
        for i, checksum in checksums.items():
            if self.data.episodes[i].length and first.setdefault(checksum, i) != i:
                twin = self.data.episodes[first[checksum]].name
                what = f"an episode is a copy of {twin}"
                self.warnings.setdefault(what, []).append(self.data.episodes[i].name)

    def _constant(self) -> None:
        for key, (low, high) in sorted(self.ranges.items()):
            if not key.startswith(OBS) and key != "actions":
                continue
            still = np.flatnonzero(np.atleast_1d(low == high))
            if len(still):
                which = ", ".join(map(str, still))
                self.warnings.setdefault(f"{key}: dimension {which} never changes", [])

    def _contract(self) -> None:
        contract = self.data.contract
        if contract is None:
            self.warnings.setdefault("env_args names no environment contract", [])
            return
        for key, shape in contract.obs_shapes.items():
            found = self.shapes.get(OBS + key)
            if found is None:
                self._error(f"the observation {key!r} of the contract is missing")
            elif found[0] != shape or found[1] != contract.obs_dtypes.get(key, found[1]):
                self._error(f"obs/{key} is {found}, and the contract says {shape}")

    def _index(self) -> None:
        """Check that the index of each file, if it is used, agrees with HDF5."""
        if isinstance(self.data, EpisodeFile) and not index_is_true(self.data):
            self._error(_FALSE_INDEX)
        if isinstance(self.data, ShardedDataset):
            for shard in range(len(self.data.rows)):
                path = self.data.shard_path(shard)
                with open_file(path, use_index=False) as file:
                    if not index_is_true(file):
                        self._error(_FALSE_INDEX, path.name)

    def _masks(self) -> None:
        steps = sum(e.length for e in self.data.episodes)
        try:
            total = self.data.attribute("total", steps)
        except UserError as error:
            self.warnings.setdefault(str(error), [])
            total = steps
        if total != steps:
            self._error(f"the attribute total is {total}, but there are {steps} steps")
        masks = self.data.masks
        for problem in masks.problems():
            self._error(problem)
        for name in masks.names:
            missing = masks.read(name)[1]
            if missing and name not in SPLITS:
                self.warnings.setdefault(
                    f"mask/{name} names {missing[0]!r}, which is not there", []
                )
        if not any(name in SPLITS for name in masks.names):
            self.warnings.setdefault("there is no split into train and valid", [])


def index_is_true(file: EpisodeFile) -> bool:
    """Return whether the index of a file, opened without it, agrees with HDF5; true if there is none."""
    everything = file.split("all")
    keys = ["actions", *(OBS + key for key in file.obs_keys)]
    with open_file(file.path) as indexed:
        if indexed.index is None:
            return True
        if indexed.episodes != file.episodes:
            return False
        columns = file.columns(everything, keys)
        for key, found in indexed.columns(everything, keys).items():
            true = columns[key]
            if found is None or true is None or not found.same_as(true):
                return False
    return True


def _content_hash(
    data: EpisodeSource,
    checksums: Sequence[str],
    masks: Mapping[str, Sequence[int]] | None = None,
    *,
    with_path: bool = False,
) -> str:
    """Return the hash of a file whose episodes have these checksums, with its own masks or others."""
    masks = data.splits() if masks is None else masks
    splits = {name: set(members) for name, members in masks.items()}
    digests = []
    for i, checksum in enumerate(checksums):
        about = {k: data.episode_attribute(i, k) for k in (*IDENTITY, "model_sha256")}
        digests.append(episode_digest(checksum, about, [m for m in splits if i in splits[m]]))
    return combine_digests(digests, data.attribute("env_args", "{}"), with_path=with_path)


def _sentences(found: dict[str, list[str]]) -> list[str]:
    """Return one sentence per problem, naming a few of the episodes that have it."""
    sentences = []
    for what, names in found.items():
        named = [n for n in names if n]
        shown = ", ".join(named[:_SHOWN]) + (", ..." if len(named) > _SHOWN else "")
        count = f" ({len(named)} episodes: {shown})" if len(named) > 1 else f" ({shown})"
        sentences.append(what + (count if named else ""))
    return sentences
