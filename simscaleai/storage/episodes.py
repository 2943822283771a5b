"""Reading datasets of episodes, ours and those of others.

    with open_dataset("data/reach.h5") as data:
        for i in data.split("train"):
            actions = data.read(i, "actions")          # (T, 4)
            target = data.read(i, "obs/target_pos", 0, 1)  # (1, 3)

Two layouts are read (and only the first is written, by `EpisodeWriter`):

- robomimic: /data/demo_<i>/{obs/<key>, actions, rewards, dones, states}, attributes `num_samples`,
  `seed`, `success`, `language` per demo, `total` and `env_args` on /data, /mask/{train,valid};
- plain: /episode_<i>/{observations/<key>, actions, rewards}, attribute `language`.

Both give the same keys: "obs/<key>", "actions", "rewards". A file is untrusted input; what is
refused is listed in `simscaleai.storage.hdf5`. Every failure is one `UserError` sentence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from h5py import h5d, h5g
from numpy.typing import NDArray

from simscaleai.contract import EnvContract
from simscaleai.convert import as_flag
from simscaleai.errors import UserError, unknown_name
from simscaleai.storage.chunks import Chunks, find_chunks
from simscaleai.storage.episode import OBS, SCHEMA_VERSION, Episode, array_checksum
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.hdf5 import SafeFile

__all__ = ["Episode", "EpisodeFile", "EpisodeMeta", "EpisodeWriter", "open_dataset"]

_MAX_DEPTH = 2  # obs/<key> or obs/images/<camera>
_FALLBACK_VALID = 10  # without masks every tenth episode is for validation


@dataclass(frozen=True)
class EpisodeMeta:
    """One episode before its arrays are read.

    Attributes:
      name: its group, such as "demo_0".
      length: steps.
      seed, success: None where the file does not say.
      language: the instruction, or "".
    """

    name: str
    length: int
    seed: int | None
    success: bool | None
    language: str


def open_dataset(path: str | Path) -> EpisodeFile:
    """Open a dataset for reading; use it as a context manager."""
    file = SafeFile(path)
    try:
        return EpisodeFile(file)
    except BaseException:
        file.close()
        raise


class EpisodeFile:
    """An open dataset: `episodes` in numerical order, read by position in that list.

    Not for sharing between processes: let each open the path itself.
    """

    def __init__(self, file: SafeFile) -> None:
        self._file = file
        self.path = file.path
        self.is_robomimic = file.has(file.root, "data")
        self._top = file.group(file.root, "data", "data") if self.is_robomimic else file.root
        self._prefix, self._obs = (
            ("demo", "obs") if self.is_robomimic else ("episode", "observations")
        )
        pattern = re.compile(rf"{self._prefix}_(\d+)")
        matches = [m for m in map(pattern.fullmatch, file.names(self._top)) if m]
        matches.sort(key=lambda m: int(m[1]))
        if not matches:
            raise UserError(
                f"{self.path} holds no episodes; expected groups /data/demo_0, ... or /episode_0, ..."
            )
        self._check_version()
        self._groups = [self._open_group(m[0]) for m in matches]
        self.episodes = [self._meta(i, m[0]) for i, m in enumerate(matches)]
        self.obs_keys = self._find_obs_keys(0)
        self._position = {e.name: i for i, e in enumerate(self.episodes)}

    def __enter__(self) -> EpisodeFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.episodes)

    def close(self) -> None:
        self._groups.clear()
        self._file.close()

    @property
    def contract(self) -> EnvContract | None:
        """The environment that made the data; None in a file of another tool."""
        args = self.env_args
        if not isinstance(args.get("contract"), dict):
            return None
        try:
            return EnvContract.from_dict(args["contract"])
        except (TypeError, ValueError, AttributeError) as error:
            raise self._file.refuse("data", "has an unreadable `contract` in `env_args`") from error

    @property
    def env_args(self) -> dict[str, Any]:
        """The JSON that robomimic rebuilds an environment from; {} if there is none."""
        text = self.attribute("env_args", "{}")
        try:
            args = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._file.refuse("data", "has an `env_args` that is not JSON") from error
        if not isinstance(args, dict):
            raise self._file.refuse("data", "has an `env_args` that is not a JSON object")
        return args

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the whole dataset (/data), such as "total"."""
        return self._file.attribute(self._top, name, self._label(), default)

    def episode_attribute(self, i: int, name: str, default: Any = None) -> Any:
        """An attribute of episode i, such as "policy"."""
        return self._file.attribute(self._groups[i], name, self._label(i), default)

    def keys(self, i: int) -> list[str]:
        """What `read` knows for episode i: "actions", "obs/<key>", ...; sorted."""
        group = self._groups[i]
        label = self._label(i)
        named = [
            n for n in self._file.names(group) if not self._file.is_group(group, n, f"{label}/{n}")
        ]
        return sorted(named + [OBS + k for k in self._find_obs_keys(i)])

    def shape(self, i: int, key: str) -> tuple[int, ...]:
        """Shape of an array, without reading it."""
        return tuple(self._dataset(i, key)[0].shape)

    def dtype(self, i: int, key: str) -> np.dtype[Any]:
        """What `read` gives for an array, without reading it."""
        return self._dataset(i, key)[0].dtype.newbyteorder("=")

    def chunks(self, i: int, key: str) -> Chunks | None:
        """Where the chunks of an array lie in the file; None if only HDF5 can read them."""
        return find_chunks(self._dataset(i, key)[0], self._file.size)

    def read(self, i: int, key: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Steps start..stop (all by default) of one array of episode i.

        Args:
          i: position in `episodes`.
          key: "actions", "rewards", "dones", "states" or "obs/<key>".

        Raises:
          UserError: the episode has no such array, or it fails a check.
        """
        dataset, label = self._dataset(i, key)
        return self._file.read(dataset, label, start, stop)

    def checksum(self, i: int) -> str:
        """`array_checksum` of episode i as it is in the file."""
        return array_checksum({k: self.read(i, k) for k in self.keys(i)})

    def splits(self) -> dict[str, list[int]]:
        """{mask name: positions, sorted} as stored; {} if the file has no masks.

        Raises:
          UserError: a mask names an episode that is not there.
        """
        if not self.is_robomimic or not self._file.has(self._file.root, "mask"):
            return {}
        group = self._file.group(self._file.root, "mask", "mask")
        found = {}
        for name in sorted(self._file.names(group)):
            members = self._file.strings(group, name, f"mask/{name}", len(self.episodes))
            unknown = [m for m in members if m not in self._position]
            if unknown:
                raise self._file.refuse(f"mask/{name}", f"names {unknown[0]!r}, which is not there")
            found[name] = sorted(self._position[m] for m in members)
        return found

    def split(self, name: str) -> list[int]:
        """Positions of the episodes of a split, sorted: "all", "train", "valid" or another mask.

        A file without any mask is split by position: every tenth episode is for validation.
        """
        everything = list(range(len(self.episodes)))
        if name == "all":
            return everything
        splits = self.splits() or {
            "train": [i for i in everything if (i + 1) % _FALLBACK_VALID],
            "valid": everything[_FALLBACK_VALID - 1 :: _FALLBACK_VALID],
        }
        if name not in splits:
            raise unknown_name(f"split of {self.path}:", name, [*splits, "all"])
        return splits[name]

    def _label(self, i: int | None = None, key: str = "") -> str:
        parts = ["data"] if self.is_robomimic else []
        if i is not None:
            parts.append(self.episodes[i].name)
        return "/".join([*parts, key] if key else parts) or "/"

    def _open_group(self, name: str) -> h5g.GroupID:
        label = f"data/{name}" if self.is_robomimic else name
        return self._file.group(self._top, name, label)

    def _check_version(self) -> None:
        version = self.attribute("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{self.path} has schema version {version}, and this version of simscaleai reads"
                f" {SCHEMA_VERSION}; generate the data again or update simscaleai."
            )

    def _meta(self, i: int, name: str) -> EpisodeMeta:
        group = self._groups[i]
        label = f"data/{name}" if self.is_robomimic else name

        def attribute(key: str, default: Any) -> Any:
            return self._file.attribute(group, key, label, default)

        length = self._file.dataset(group, "actions", f"{label}/actions").shape[0]
        stated = attribute("num_samples", length)
        if stated != length:
            raise self._file.refuse(label, f"says {stated} steps but has {length} actions")
        seed, success = attribute("seed", None), attribute("success", None)
        try:
            success = as_flag(success)
        except ValueError as error:
            raise self._file.refuse(label, f"has a success that is unclear: {error}") from None
        return EpisodeMeta(
            name,
            length,
            None if seed is None else int(seed),
            success,
            str(attribute("language", "")),
        )

    def _find_obs_keys(self, i: int) -> list[str]:
        name = self._obs
        if not self._file.has(self._groups[i], name):
            return []
        label = self._label(i, name)
        group = self._file.group(self._groups[i], name, label)
        return sorted(self._walk(group, label, "", _MAX_DEPTH))

    def _walk(self, group: h5g.GroupID, label: str, prefix: str, depth: int) -> list[str]:
        keys = []
        for name in self._file.names(group):
            inner = f"{label}/{name}"
            if not self._file.is_group(group, name, inner):
                keys.append(prefix + name)
            elif depth > 1:
                child = self._file.group(group, name, inner)
                keys += self._walk(child, inner, f"{prefix}{name}/", depth - 1)
        return keys

    def _dataset(self, i: int, key: str) -> tuple[h5d.DatasetID, str]:
        path = self._obs + key[len(OBS) - 1 :] if key.startswith(OBS) else key
        label = self._label(i, path)
        group = self._groups[i]
        *folders, leaf = path.split("/")
        for folder in folders:
            if not self._file.has(group, folder):
                break
            group = self._file.group(group, folder, label)
        if not self._file.has(group, leaf):
            raise unknown_name(f"array of {self.path}, {self.episodes[i].name}:", key, self.keys(i))
        dataset = self._file.dataset(group, leaf, label)
        length = self.episodes[i].length
        if dataset.shape[0] != length:
            raise self._file.refuse(label, f"has {dataset.shape[0]} steps but {length} actions")
        return dataset, label
