"""Read a folder of shards as one dataset.

    with open_dataset("data/big") as data:       # reads data/big/manifest.parquet, and no shard
        data.read(123_456, "obs/ee_pos")         # opens the shard of that episode

Episodes are numbered over all shards, in the order of the manifest. A shard is opened when one of its
episodes is asked for; the one that was used last stays open. Training does not go through HDF5 at all:
`IndexedShard` finds the values by the table at the end of a shard.
"""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from simscaleai.array_types import Array, IntArray
from simscaleai.contract import EnvContract
from simscaleai.errors import MissingFileError, UserError
from simscaleai.guards import guarded
from simscaleai.json_types import JsonDict
from simscaleai.storage.env_args import parse_env_args
from simscaleai.storage.episode import OBS
from simscaleai.storage.episode_file import EpisodeFile, open_file
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.episode_table import EpisodeTable
from simscaleai.storage.indexed_shard import IndexedShard
from simscaleai.storage.manifest import read_manifest
from simscaleai.storage.shard_masks import ShardMasks


class ShardedDataset(EpisodeSource):
    """An open folder of shards.

    Args:
      path: the folder.
      images: not for folders: those of other tools are files.
      use_index: whether to trust the indices of the shards, where they fit them.

    Attributes:
      manifest: what the folder says of itself.
      starts: (shards + 1,) number of the first episode of each shard, and of all episodes.
    """

    def __init__(
        self, path: str | Path, images: Mapping[str, str] | None = None, *, use_index: bool = True
    ) -> None:
        if images:
            raise UserError(
                f"{path} is a folder of shards, which are read as they are; data.images is for a file of"
                " another tool."
            )
        self.path, self.images, self.is_robomimic = Path(path), {}, True
        self.manifest = read_manifest(self.path)
        rows = self.rows = self.manifest.rows
        if not rows:
            raise UserError(
                f"{path} holds no finished shard yet; run the command that writes it with --resume."
            )
        with guarded(
            f"The manifest of {path}", "run the command that wrote the dataset with --resume"
        ):
            self._arrays = self.manifest.arrays()
            # one contract for the folder: the shards repeat it, and are not opened to compare
            args = parse_env_args(str(self.manifest.about.get("env_args", "{}")))
            contract = args.get("contract")
            self.contract = EnvContract.from_dict(contract) if isinstance(contract, dict) else None
            unknown = [str(name) for name in self.manifest.about.get("unknown", [])]
        self.env_args: JsonDict = args
        self.starts = np.cumsum([0, *(len(row.lengths) for row in rows)])
        self.lengths: IntArray = np.concatenate([row.lengths for row in rows])
        self.instructions = [text for row in rows for text in row.instructions]
        self.episodes = EpisodeTable(rows, self.starts.tolist(), unknown)
        self.obs_keys = sorted(k.removeprefix(OBS) for k in self._arrays if k.startswith(OBS))
        self.example = 0  # no episode of a manifest is empty
        self._use_index = use_index
        # (process, shard, file): a handle that a forked process inherits must not be used there
        self._open: tuple[int, int, EpisodeFile] | None = None

    @property
    def masks(self) -> ShardMasks:
        """Which episodes are for training and which for validation, by the manifest."""
        return ShardMasks(self.path, self.rows)

    def close(self) -> None:
        if self._open is not None and self._open[0] == os.getpid():
            self._open[2].close()
        self._open = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the whole dataset: what a file has in /data, objects as JSON text."""
        own = {"total": int(self.lengths.sum()), **self.manifest.about}
        value = own.get(name, default)
        return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value

    def episode_attribute(self, i: int, name: str, default: Any = None) -> Any:
        file, local = self._at(i)
        return file.episode_attribute(local, name, default)

    def keys(self, i: int) -> list[str]:
        file, local = self._at(i)
        return file.keys(local)

    def shape(self, i: int, key: str) -> tuple[int, ...]:
        """Return the shape of an array, by the manifest where it lists the array."""
        if key in self._arrays:
            return int(self.lengths[i]), *self._arrays[key][0]
        file, local = self._at(i)
        return file.shape(local, key)

    def dtype(self, i: int, key: str) -> np.dtype[Any]:
        if key in self._arrays:
            return self._arrays[key][1]
        file, local = self._at(i)
        return file.dtype(local, key)

    def read(self, i: int, key: str, start: int = 0, stop: int | None = None) -> Array:
        file, local = self._at(i)
        return file.read(local, key, start, stop)

    def place(self, i: int) -> tuple[Path, str]:
        shard, local = self.shard_of(i)
        return self.shard_path(shard), f"data/demo_{local}"

    def path_of(self, key: str) -> str:
        return self._at(0)[0].path_of(key)

    def shard_of(self, i: int) -> tuple[int, int]:
        """Return the shard of episode i, and the episode's position in it."""
        if not 0 <= i < len(self):
            raise IndexError(f"episode {i} of {len(self)}")
        shard = bisect.bisect_right(self.starts, i) - 1
        return shard, i - int(self.starts[shard])

    def shard_path(self, shard: int) -> Path:
        """Return the path of a shard.

        Raises:
          UserError: it is not there, or has not the size that the manifest says.
        """
        row = self.rows[shard]
        path = self.path / row.shard
        remedy = "run the command that wrote the dataset with --resume, which makes it again"
        try:
            size = os.stat(path).st_size
        except OSError:
            raise MissingFileError(
                f"The shard {path} is not there, and the manifest lists it; {remedy}."
            ) from None
        # the size and not the hash: hashing a terabyte is what `simscale validate` is for
        if size != row.nbytes:
            raise UserError(
                f"The shard {path} has {size} bytes, and {row.nbytes} in the manifest: it is cut short or was"
                f" changed; {remedy}."
            )
        return path

    @contextmanager
    def open_shard(self, shard: int) -> Iterator[IndexedShard | EpisodeFile]:
        """Open a shard for the block: one whose values can be found without HDF5, or else the file.

        The file is a handle of its own, since threads read shards ahead of those that are used.
        """
        path, row = self.shard_path(shard), self.rows[shard]
        if self._use_index and row.index_bytes:
            found = IndexedShard.find(path, row, self.contract)
            if found is not None:
                yield found
                return
        with self._open_file(shard) as file:
            yield file

    def _file(self, shard: int) -> EpisodeFile:
        """Return an open shard; it is closed when another one is opened."""
        if self._open is None or self._open[:2] != (os.getpid(), shard):
            self.close()
            self._open = os.getpid(), shard, self._open_file(shard)
        return self._open[2]

    def _open_file(self, shard: int) -> EpisodeFile:
        file = open_file(self.shard_path(shard), use_index=self._use_index)
        # or episode i would be another one than the manifest says
        if len(file) != len(self.rows[shard].lengths):
            file.close()
            raise UserError(
                f"The shard {file.path} has {len(file)} episodes, and {len(self.rows[shard].lengths)} in the"
                " manifest; validate the dataset."
            )
        return file

    def _at(self, i: int) -> tuple[EpisodeFile, int]:
        shard, local = self.shard_of(i)
        return self._file(shard), local
