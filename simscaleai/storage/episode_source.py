"""What every reader of a dataset can do, whether the dataset is one file or a folder of shards.

Episodes are numbered by their position in `episodes`; that number is what every method takes. A key is
"actions", "rewards", "dones", "states", "obs/<key>" or "next_obs/<key>".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from simscaleai.array_types import Array, IntArray
from simscaleai.contract import EnvContract
from simscaleai.storage.episode import IDENTITY, EpisodeMeta, array_checksum, episode_digest


class Splits(Protocol):
    """Named sets of episodes, such as "train" and "valid".

    Attributes:
      names: of the sets, sorted.
    """

    names: list[str]

    def read(self, name: str) -> tuple[list[int], list[str]]:
        """Return the sorted positions of a set's episodes, and names in it that no episode has."""

    def split(self, name: str) -> list[int]:
        """Return the sorted positions of "all", "train", "valid" or another set."""

    def problems(self) -> list[str]:
        """Return what is wrong with "train" and "valid", one sentence each."""


class EpisodeSource(ABC):
    """An open dataset; use it as a context manager.

    Not for sharing between processes: let each open the path itself.

    Attributes:
      path: the file or the folder.
      images: {camera: observation} that images of another tool are read by; see `open_dataset`.
      episodes: what is known of each episode before its arrays are read.
      lengths: (episodes,) steps of each.
      instructions: of each, "" for none.
      obs_keys: names of the observations, sorted.
      contract: the environment that made the data; None where the dataset does not say.
      example: position of the first episode that has a step; 0 if there is none.
      is_robomimic: whether files have the robomimic layout.
    """

    path: Path
    images: dict[str, str]
    episodes: Sequence[EpisodeMeta]
    lengths: IntArray
    instructions: list[str]
    obs_keys: list[str]
    contract: EnvContract | None
    example: int
    is_robomimic: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    @abstractmethod
    def masks(self) -> Splits:
        """Which episodes are for training and which for validation."""

    @abstractmethod
    def close(self) -> None:
        """Close the files."""

    @abstractmethod
    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the whole dataset, such as "total"."""

    @abstractmethod
    def episode_attribute(self, i: int, name: str, default: Any = None) -> Any:
        """Return an attribute of episode i, such as "policy"."""

    @abstractmethod
    def keys(self, i: int) -> list[str]:
        """Return the keys that `read` takes for episode i, sorted."""

    @abstractmethod
    def shape(self, i: int, key: str) -> tuple[int, ...]:
        """Return the shape (T, ...) of an array without reading it."""

    @abstractmethod
    def dtype(self, i: int, key: str) -> np.dtype[Any]:
        """Return the dtype that `read` gives, without reading the array."""

    @abstractmethod
    def read(self, i: int, key: str, start: int = 0, stop: int | None = None) -> Array:
        """Return steps start..stop (all by default) of one array of episode i.

        Raises:
          UserError: the episode has no such array, or it fails a check.
        """

    @abstractmethod
    def place(self, i: int) -> tuple[Path, str]:
        """Return the file of episode i and its group there, such as "data/demo_0"."""

    @abstractmethod
    def path_of(self, key: str) -> str:
        """Return the path of an array below the group of its episode."""

    def checksum(self, i: int) -> str:
        """Return `array_checksum` of episode i as stored."""
        return array_checksum({k: self.read(i, k) for k in self.keys(i)})

    def digest(self, i: int) -> str:
        """Return `episode_digest` of episode i, with the checksum of the arrays as stored."""
        about = {k: self.episode_attribute(i, k) for k in (*IDENTITY, "model_sha256")}
        members = self._members
        return episode_digest(self.checksum(i), about, [m for m in members if i in members[m]])

    @cached_property
    def _members(self) -> dict[str, set[int]]:
        """{mask: positions}."""
        return {name: set(positions) for name, positions in self.splits().items()}

    def splits(self) -> dict[str, list[int]]:
        """Return {mask: positions, sorted} as stored; {} if there are no masks."""
        return {name: self.masks.read(name)[0] for name in self.masks.names}

    def split(self, name: str) -> list[int]:
        """Return the sorted positions of a split's episodes with at least one step; see `Masks.split`."""
        positions = np.asarray(self.masks.split(name), np.int64)
        return positions[self.lengths[positions] > 0].tolist()
