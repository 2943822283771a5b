"""Write a dataset as a Zarr group, in the layout of diffusion_policy's `ReplayBuffer`.

    data/action              (N, A)    the steps of all episodes, one after the other
    data/state               (N, d)    the vectors of an observation side by side, as models read them
    data/<observation>       (N, ...)  each observation, under its name in our files: ee_pos, front_cam_image
    data/reward, data/done   (N,)
    meta/episode_ends        (E,)      int64, where in N each episode ends
    meta/success, meta/seed  (E,)      of each episode
    meta/instruction         (E,)      int64, position in the attribute `instructions` of the group

Arrays are of Zarr's format 2, which every version of the library reads; one frame of an image is one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from simscaleai.array_types import Array, ArrayDict
from simscaleai.errors import MissingPackageError, UserError
from simscaleai.storage.episode import OBS
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.obs_names import file_names

MARKER = "meta/episode_ends/.zarray"  # a file that every such folder has
_STEPS = 4096  # of a vector in a chunk
_VECTOR_RANK = 2  # (T, d); more are images


class ZarrWriter:
    """Writes an open dataset to a new folder.

    Attributes:
      steps: number of all steps.

    Raises:
      MissingPackageError: zarr is not installed.
      UserError: there are no steps, an observation has a name that Zarr cannot have beside the others, or
        episodes differ in their arrays.
    """

    def __init__(self, data: EpisodeSource, folder: Path) -> None:
        self._data, self._folder, self._zarr = data, folder, _zarr()
        self._episodes = [i for i, episode in enumerate(data.episodes) if episode.length]
        self.steps = sum(data.episodes[i].length for i in self._episodes)
        if not self.steps:
            raise UserError(
                f"{data.path} holds no episode with a step; there is nothing to export."
            )
        self._names = _names(data, data.keys(self._episodes[0]))

    def write(self, on_episode: Callable[[int], None] = lambda length: None) -> None:
        """Write everything; `on_episode` is called with the length of each finished episode."""
        group = self._zarr.open_group(self._folder, mode="w", zarr_format=2)
        data = group.create_group("data")
        arrays: dict[str, Any] = {}
        start = 0
        for i in self._episodes:
            values = self._values(i)
            length = self._data.episodes[i].length
            for name, value in values.items():
                if name not in arrays:
                    arrays[name] = self._create(data, name, value)
                if value.shape != (length, *arrays[name].shape[1:]):
                    raise UserError(
                        f"{self._data.path}: {name} has the shape {value.shape} in episode {i} and"
                        f" {arrays[name].shape[1:]} per step before; Zarr needs the same in all."
                    )
                arrays[name][start : start + length] = value
            start += length
            on_episode(length)
        self._write_meta(group)

    def _values(self, i: int) -> ArrayDict:
        """Return the arrays of an episode by their names in Zarr."""
        found = {name: self._data.read(i, key) for key, name in self._names.items()}
        vectors = [found[n] for k, n in self._names.items() if k.startswith(OBS)]
        vectors = [value for value in vectors if value.ndim == _VECTOR_RANK]
        if vectors and "state" not in found:
            found["state"] = np.concatenate(vectors, axis=1)
        return found

    def _create(self, group: Any, name: str, value: Array) -> Any:
        """Return a new array for the steps of all episodes, like `value` (T, ...)."""
        shape = (self.steps, *value.shape[1:])
        per_chunk = 1 if value.ndim > _VECTOR_RANK else min(_STEPS, self.steps)
        chunks = (per_chunk, *shape[1:])
        return group.create_array(name, shape=shape, chunks=chunks, dtype=value.dtype)

    def _write_meta(self, group: Any) -> None:
        episodes = [self._data.episodes[i] for i in self._episodes]
        sentences = list(dict.fromkeys(episode.language for episode in episodes))
        columns = {
            "episode_ends": np.cumsum([episode.length for episode in episodes], dtype=np.int64),
            "instruction": np.array([sentences.index(e.language) for e in episodes], np.int64),
        }
        # what a file of another program does not say is left out
        if all(episode.success is not None for episode in episodes):
            columns["success"] = np.array([bool(episode.success) for episode in episodes])
        if all(episode.seed is not None for episode in episodes):
            columns["seed"] = np.array([episode.seed for episode in episodes], np.uint64)
        meta = group.create_group("meta")
        for name, column in columns.items():
            meta.create_array(name, data=column, chunks=column.shape)
        group.attrs["instructions"] = sentences
        if (contract := self._data.contract) is not None:
            group.attrs["fps"] = 1 / contract.control_dt
            group.attrs["env_name"] = contract.env_name


def _names(data: EpisodeSource, have: Collection[str]) -> dict[str, str]:
    """Return {key: its name in Zarr} of the keys that an episode has."""
    in_file = file_names(data.contract) if data.contract is not None else {}
    paths = {OBS + key: OBS + in_file.get(key, key) for key in sorted(data.obs_keys)}
    paths = {"actions": "action", "rewards": "reward", "dones": "done"} | paths
    names: dict[str, str] = {}
    taken: dict[str, str] = {}  # {name: path in our files}, which an image of two keys has once
    for key, path in paths.items():
        if key in have:
            name = path.removeprefix(OBS).replace("/", "_")
            if taken.setdefault(name, path) != path or name.startswith(".") or "\\" in name:
                raise UserError(
                    f"{data.path}: {key!r} would be {name!r} in Zarr, which another array has or no array can"
                    " have; give the observation another name."
                )
            names[key] = name
    return names


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise MissingPackageError(
            "Export to Zarr needs zarr 3, which is not installed; install it with: pip install"
            " 'simscaleai[zarr]'."
        ) from error
    return zarr
