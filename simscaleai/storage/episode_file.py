"""Read one HDF5 file of episodes, our own or that of another tool; see `episodes.open_dataset`.

Two layouts are read (and only the first is written, by `EpisodeWriter`):

- robomimic: /data/demo_<i>/{obs/<key>, actions, rewards, dones, states}, attributes `num_samples`,
  `seed`, `success`, `language` per demo, `total` and `env_args` on /data, /mask/{train,valid};
- plain: /episode_<i>/{observations/<key>, actions, rewards}, attribute `language`.

Both give the same keys: "obs/<key>", "actions", "rewards". Observations may be nested, as
"obs/object_pose/cube". Images of our files have the names that environments give them (`obs_names`). A
file is untrusted input; `simscaleai.storage.hdf5` lists what is refused. Every failure is one `UserError`
sentence.

At most one episode's HDF5 objects are open at a time, and a file with an index (`storage.index`) is opened
without reading its episodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from h5py import h5d, h5g

from simscaleai.array_types import Array
from simscaleai.contract import EnvContract
from simscaleai.convert import as_flag
from simscaleai.errors import UserError, unknown_name
from simscaleai.guards import guarded
from simscaleai.json_types import JsonDict
from simscaleai.storage.env_args import parse_env_args
from simscaleai.storage.episode import (
    NEXT_OBS,
    OBS,
    SCHEMA_VERSION,
    EpisodeMeta,
)
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.hdf5 import MissingEntryError, SafeFile
from simscaleai.storage.hdf5_chunks import Chunks, join
from simscaleai.storage.index import NAME as INDEX
from simscaleai.storage.index import Index
from simscaleai.storage.obs_names import KeyPaths
from simscaleai.storage.sealed_index import unseal
from simscaleai.storage.split_masks import Masks
from simscaleai.storage.vetting import vet

_MAX_DEPTH = 16  # of nested groups; hard links can form a cycle
_MAX_KEYS = 4096


def open_file(
    path: str | Path, images: Mapping[str, str] | None = None, *, use_index: bool = True
) -> EpisodeFile:
    """Open one HDF5 file for reading; see `episodes.open_dataset`."""
    vet(path)
    file = SafeFile(path)
    try:
        with guarded(f"The dataset {file.path}", "generate or convert it again"):
            return EpisodeFile(file, images, use_index=use_index)
    except BaseException:
        file.close()
        raise


class EpisodeFile(EpisodeSource):
    """One open file: `episodes` in numerical order, read by position in that list.

    Attributes:
      index: where all values are, if the file says so and it is up to date; else None.
      index_place: first byte and number of bytes of the index; (0, 0) without one.
    """

    def __init__(
        self, file: SafeFile, images: Mapping[str, str] | None = None, *, use_index: bool = True
    ) -> None:
        self._file = file
        self.path, self.images = file.path, dict(images or {})
        self.is_robomimic = file.has(file.root, "data")
        self._top = file.group(file.root, "data", "data") if self.is_robomimic else file.root
        self._prefix, self._obs = (
            ("demo", "obs") if self.is_robomimic else ("episode", "observations")
        )
        pattern = re.compile(rf"{self._prefix}_(\d+)")
        matches = [m for m in map(pattern.fullmatch, file.names(self._top)) if m]
        # by number: in the order of names demo_10 comes before demo_2
        matches.sort(key=lambda m: int(m[1]))
        if not matches:
            raise UserError(
                f"{self.path} holds no episodes; expected groups /data/demo_0, ... or /episode_0, ..."
            )
        self._check_version()
        self._opened: tuple[str, dict[str, h5g.GroupID]] = "", {}
        names = [m[0] for m in matches]
        self.index_place = 0, 0
        self.index = self._find_index(names) if use_index else None
        self.episodes = (
            [self._meta(name) for name in names]
            if self.index is None
            else list(map(EpisodeMeta, names, *self.index.about()))
        )
        self.lengths = np.array([e.length for e in self.episodes], np.int64)
        self.instructions = [e.language for e in self.episodes]
        # its arrays stand for those of all, and an empty episode may have none
        self.example = int(np.argmax(self.lengths > 0))
        self.contract = self._read_contract()
        paths = self._obs_paths(self.example)
        self._places = KeyPaths(self.contract, paths, self.images, self._obs, str(self.path))
        self.obs_keys = sorted(self._places.paths)

    def close(self) -> None:
        self._opened = "", {}
        self._file.close()

    @property
    def env_args(self) -> JsonDict:
        """The JSON from which robomimic rebuilds an environment; {} if there is none."""
        text = self.attribute("env_args", "{}")
        try:
            return parse_env_args(text)
        except ValueError as error:
            raise self._file.refuse("data", f"has an `env_args` that is {error}") from error

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the whole dataset (/data), such as "total"."""
        return self._file.attribute(self._top, name, self._label(), default)

    def episode_attribute(self, i: int, name: str, default: Any = None) -> Any:
        """Return an attribute of episode i, such as "policy"."""
        return self._file.attribute(self._group(i), name, self._label(i), default)

    def keys(self, i: int) -> list[str]:
        """Return the keys that `read` takes for episode i: "actions", "obs/<key>", ...; sorted."""
        group = self._group(i)
        label = self._label(i)
        named = [
            n for n in self._file.names(group) if not self._file.is_group(group, n, f"{label}/{n}")
        ]
        for prefix, folder in ((OBS, self._obs), (NEXT_OBS, NEXT_OBS[:-1])):
            paths = self._walk_observations(i, folder)
            named += [prefix + key for path in paths for key in self._places.keys_of(path)]
        return sorted(named)

    def shape(self, i: int, key: str) -> tuple[int, ...]:
        """Return the shape of an array without reading it."""
        length, *step_shape = self._dataset(i, key)[0].shape
        return (length, *self._places.step_shape(key, tuple(step_shape)))

    def dtype(self, i: int, key: str) -> np.dtype[Any]:
        """Return the dtype that `read` gives, without reading the array."""
        return self._dataset(i, key)[0].dtype.newbyteorder("=")

    def columns(self, episodes: Sequence[int], keys: Sequence[str]) -> dict[str, Chunks | None]:
        """Return the chunks of some arrays over some episodes, one after the other.

        Args:
          episodes: positions of episodes with at least one step.
          keys: as for `read`.

        Returns:
          {key: chunks}; None for an array that only HDF5 can read.
        """
        found: dict[str, Chunks | None]
        if self.index is not None:
            found = {key: self.index.chunks(self.path_of(key), episodes) for key in keys}
        else:
            found = self._find_columns(episodes, keys)
        for key, chunks in found.items():
            if chunks is not None:
                found[key] = self._places.with_step_shape(key, chunks)
        return found

    def _find_columns(
        self, episodes: Sequence[int], keys: Sequence[str]
    ) -> dict[str, Chunks | None]:
        """Return `columns` of a file without an index; each episode is opened once for all arrays."""
        parts: dict[str, list[Chunks]] = {key: [] for key in keys}
        # the outer loop is over episodes, since opening a group costs more than an array in it
        for i in episodes:
            for key in list(parts):
                part = self._file.chunks(*self._dataset(i, key))
                if part is None:
                    del parts[key]
                else:
                    parts[key].append(part)
        lengths = self.lengths[np.asarray(episodes, np.int64)]
        starts = (np.cumsum(lengths) - lengths).tolist()
        return {key: join(parts[key], starts) if key in parts else None for key in keys}

    def read(self, i: int, key: str, start: int = 0, stop: int | None = None) -> Array:
        """Return steps start..stop (all by default) of one array of episode i.

        Args:
          i: position in `episodes`.
          key: "actions", "rewards", "dones", "states", "obs/<key>" or "next_obs/<key>".

        Raises:
          UserError: the episode has no such array, or it fails a check.
        """
        dataset, label = self._dataset(i, key)
        values = self._file.read(dataset, label, start, stop)
        return values.reshape(len(values), *self._places.step_shape(key, values.shape[1:]))

    def place(self, i: int) -> tuple[Path, str]:
        """Return the file and the group of episode i."""
        return self.path, self._label(i)

    @cached_property
    def masks(self) -> Masks:
        """Which episodes are for training and which for validation."""
        return Masks(self._file, self.episodes, self.is_robomimic)

    def _label(self, i: int | None = None, key: str = "") -> str:
        parts = ["data"] if self.is_robomimic else []
        if i is not None:
            parts.append(self.episodes[i].name)
        return "/".join([*parts, key] if key else parts) or "/"

    def _group(self, i: int) -> h5g.GroupID:
        """Return the group of episode i."""
        return self._open_group(self.episodes[i].name)

    def _open_group(self, name: str, folder: str = "") -> h5g.GroupID:
        """Return the group of an episode, or a folder in it.

        The groups of one episode at a time stay open.
        """
        episode, groups = self._opened
        if episode != name:
            groups = {}  # what was open is closed as its last reference goes
            self._opened = name, groups
        if folder not in groups:
            label = f"data/{name}" if self.is_robomimic else name
            if not folder:
                groups[""] = self._file.group(self._top, name, label)
            else:
                parent, _, leaf = folder.rpartition("/")
                label = f"{label}/{folder}"
                groups[folder] = self._file.group(self._open_group(name, parent), leaf, label)
        return groups[folder]

    def _check_version(self) -> None:
        version = self.attribute("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{self.path} has schema version {version}, and this version of simscaleai reads"
                f" {SCHEMA_VERSION}; generate the data again or update simscaleai."
            )

    def _find_index(self, names: list[str]) -> Index | None:
        """Return the index if the file has one that is up to date, else None."""
        if not self.is_robomimic or not self._file.has(self._file.root, INDEX):
            return None
        dataset = self._file.dataset(self._file.root, INDEX, INDEX)
        place = dataset.get_offset()
        # another tool may have copied it, chunked or compressed
        if place is None or dataset.rank != 1 or dataset.dtype != np.uint8:
            return None
        with open(self.path, "rb") as file:
            index = unseal(file.fileno(), self._file.read(dataset, INDEX).tobytes(), place)
        self.index_place = place, dataset.shape[0]
        expected = [f"{self._prefix}_{i}" for i in range(len(names))]
        return index if index is not None and names == expected[: len(index.lengths)] else None

    def _read_contract(self) -> EnvContract | None:
        """Return the contract of the environment that made the data; None in a file of another tool."""
        args = self.env_args
        if not isinstance(args.get("contract"), dict):
            return None
        try:
            return EnvContract.from_dict(args["contract"])
        except (TypeError, ValueError, AttributeError) as error:
            raise self._file.refuse("data", "has an unreadable `contract` in `env_args`") from error

    def _meta(self, name: str) -> EpisodeMeta:
        group = self._open_group(name)
        label = f"data/{name}" if self.is_robomimic else name

        length = self._file.dataset(group, "actions", f"{label}/actions").shape[0]
        # missing in files of other tools; where it is there, it must be true
        stated = self._file.attribute(group, "num_samples", label, length)
        if stated != length:
            raise self._file.refuse(label, f"says {stated} steps but has {length} actions")
        try:
            success = as_flag(self._file.attribute(group, "success", label))
        except ValueError as error:
            raise self._file.refuse(label, f"has a success that is unclear: {error}") from None
        return EpisodeMeta(
            name,
            length,
            _integer(self._file.attribute(group, "seed", label)),
            success,
            str(self._file.attribute(group, "language", label, "")),
        )

    def _obs_paths(self, i: int) -> list[str]:
        """Return the paths of the observations of episode i in the file."""
        if self.index is not None:
            return [p.removeprefix(OBS) for p in self.index.columns if p.startswith(OBS)]
        return self._walk_observations(i, self._obs)

    def _walk_observations(self, i: int, folder: str) -> list[str]:
        group = self._group(i)
        label = self._label(i, folder)
        if not self._file.has(group, folder):
            return []
        paths: list[str] = []
        self._walk(self._file.group(group, folder, label), label, "", paths, _MAX_DEPTH)
        return sorted(paths)

    def _walk(
        self, group: h5g.GroupID, label: str, prefix: str, paths: list[str], depth: int
    ) -> None:
        for name in self._file.names(group):
            inner = f"{label}/{name}"
            if not self._file.is_group(group, name, inner):
                paths.append(prefix + name)
            elif depth > 1:
                child = self._file.group(group, name, inner)
                self._walk(child, inner, f"{prefix}{name}/", paths, depth - 1)
            else:
                raise self._file.refuse(label, f"is nested more than {_MAX_DEPTH} groups deep")
            if len(paths) > _MAX_KEYS:
                raise self._file.refuse(label, f"holds more than {_MAX_KEYS} arrays")

    def path_of(self, key: str) -> str:
        """Return the path of an array below the group of its episode."""
        return self._places.path_of(key)

    def _dataset(self, i: int, key: str) -> tuple[h5d.DatasetID, str]:
        path = self.path_of(key)
        folder, _, leaf = path.rpartition("/")
        label = self._label(i, path)
        try:
            group = self._open_group(self.episodes[i].name, folder)
            dataset = self._file.dataset(group, leaf, label)
        except MissingEntryError:
            # listed only now, for the error: it opens every array of the episode
            known = self.keys(i)
            if key in known:
                raise
            name = self.episodes[i].name
            raise unknown_name(f"array of {self.path}, {name}:", key, known) from None
        length = self.episodes[i].length
        if dataset.shape[0] != length:
            raise self._file.refuse(label, f"has {dataset.shape[0]} steps but {length} actions")
        return dataset, label


def _integer(value: Any) -> int | None:
    """Return the seed in an attribute; None if it is not an integer."""
    try:
        return None if value is None else int(value)
    except (ValueError, OverflowError):  # a text, NaN
        return None
