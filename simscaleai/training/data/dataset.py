"""Trajectories as training samples.

    data = TrajectoryDataset("data/reach.h5", split="train")
    data[0]   # {"observations": {"ee_pos": (3,), ..., "state": (20,)}, "actions": (4,)}

A sample is one step of one episode: observations by key, `state` (all that are not images, in sorted
order), images as float (3, H, W) in [0, 1], and the action taken. With `seq_len` L the actions are those
of the L steps from there, (L, A), never from the next episode: past the end of its episode a window
repeats the last action, and `mask` (L,) is False there.

Vectors are read once and kept in memory. Images are read when asked for, by every process through a
file handle of its own, so that the dataset can be sent to workers however they are started.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai import seeding
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError, unknown_name
from simscaleai.models.inference import as_image
from simscaleai.models.normalization import Statistics
from simscaleai.observations import ObsSpec, is_image_key, unflatten_state
from simscaleai.storage.episodes import EpisodeFile, open_dataset
from simscaleai.training.data.batch import BatchedDataset


@dataclass(frozen=True)
class DataSpec:
    """What one sample of a dataset holds; `obs` describes the raw observations, not `state`."""

    obs: ObsSpec
    action_dim: int
    contract: EnvContract | None = None


class TrajectoryDataset(BatchedDataset):
    """Samples from an HDF5 file of episodes.

    Args:
      data_path: a file that `simscaleai.storage.episodes` reads.
      seq_len: actions of one sample; 1 gives (A,), more gives (L, A) and `mask`.
      obs_keys: which observations to use; by default all.
      include_language: add the episode's instruction as "language".
      transform: applied to every single sample; reading whole batches at once is then given up.
      split: "train", "valid" or "all" episodes.

    Raises:
      UserError: the file is missing or no dataset, or lacks an observation.
    """

    def __init__(
        self,
        data_path: str | Path,
        seq_len: int = 1,
        obs_keys: list[str] | None = None,
        include_language: bool = False,
        transform: Any = None,
        split: str = "all",
    ) -> None:
        if seq_len < 1:
            raise UserError(f"seq_len is {seq_len}; a sample holds at least 1 action.")
        self.path = Path(data_path)
        self.seq_len = seq_len
        self.include_language = include_language
        self.transform = transform
        self._handle: tuple[int, EpisodeFile] | None = None
        with open_dataset(data_path) as data:
            self.spec = read_spec(data, obs_keys)
            self.episodes = data.split(split)
            lengths = [data.episodes[i].length for i in self.episodes]
            self._language = [data.episodes[i].language for i in self.episodes]
            self._state = self._read_state(data, sum(lengths))
            self._actions = torch.zeros(sum(lengths), self.spec.action_dim)
            _fill(self._actions, data, self.episodes, "actions")
        counts = torch.tensor(lengths, dtype=torch.int64)
        ends = counts.cumsum(0)
        self._episode = torch.arange(len(lengths)).repeat_interleave(counts)
        self._start, self._end = (ends - counts)[self._episode], ends[self._episode]

    def __len__(self) -> int:
        return len(self._actions)

    @property
    def contract(self) -> EnvContract | None:
        """The environment that made the data; None where the file does not say."""
        return self.spec.contract

    @property
    def state_dim(self) -> int:
        return self.spec.obs.state_dim

    @property
    def action_dim(self) -> int:
        return self.spec.action_dim

    @property
    def in_memory(self) -> bool:
        """Whether samples are had without reading the file."""
        return not self.spec.obs.image_keys

    def statistics(self) -> dict[str, Statistics]:
        """Of "state" and "actions", over every step of this split."""
        return {"state": Statistics.of(self._state), "actions": Statistics.of(self._actions)}

    def read(self, indices: torch.Tensor) -> dict[str, Any]:
        """A batch: rows of what lies in memory, and frames from the file."""
        obs: dict[str, Any] = {}
        if self.spec.obs.state_keys:
            state = self._state[indices]
            obs = {**unflatten_state(state, self.spec.obs), "state": state}
        for key in self.spec.obs.image_keys:
            obs[key] = self._images(key, indices)
        batch: dict[str, Any] = {"observations": obs}
        if self.seq_len == 1:
            batch["actions"] = self._actions[indices]
        else:
            window = indices[:, None] + torch.arange(self.seq_len)
            ends = self._end[indices][:, None]
            batch["actions"] = self._actions[window.minimum(ends - 1)]
            batch["mask"] = window < ends
        if self.include_language:
            batch["language"] = [self._language[e] for e in self._episode[indices].tolist()]
        return batch

    def _images(self, key: str, indices: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) float32; frames are visited in the file's order."""
        frames = np.empty((len(indices), *self.spec.obs.shapes[key]), self.spec.obs.dtypes[key])
        episodes = self._episode[indices].tolist()
        steps = (indices - self._start[indices]).tolist()
        file = self._file()
        for row in torch.argsort(indices).tolist():
            episode, t = self.episodes[episodes[row]], steps[row]
            frames[row] = file.read(episode, f"obs/{key}", t, t + 1)[0]
        return as_image(torch.from_numpy(frames))

    def _file(self) -> EpisodeFile:
        """The handle of this process: one inherited from another process must not be read."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), open_dataset(self.path))
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _read_state(self, data: EpisodeFile, steps: int) -> torch.Tensor:
        state = torch.zeros(steps, self.state_dim)
        for key, part in unflatten_state(state, self.spec.obs).items():
            _fill(part, data, self.episodes, f"obs/{key}")
        return state


class DummyTrajectoryDataset(BatchedDataset):
    """Made-up samples for trying a model without data: the action is a fixed function of the state.

    Args:
      num_samples: how many.
      obs_dim: width of "state".
      action_dim: width of an action, in (-1, 1).
      image_size: (height, width) of "image".
      include_image, include_language: add "image" (3, H, W) in [0, 1], or "language".
      seed: the same seed gives the same samples.
    """

    def __init__(
        self,
        num_samples: int = 1000,
        obs_dim: int = 20,
        action_dim: int = 4,
        image_size: tuple[int, int] = (128, 128),
        include_image: bool = False,
        include_language: bool = False,
        seed: int = 42,
        *,
        seq_len: int = 1,
    ) -> None:
        self.seed, self.seq_len = seed, seq_len
        self.include_language = include_language
        shapes: dict[str, tuple[int, ...]] = {"state": (obs_dim,)} if obs_dim else {}
        dtypes = dict.fromkeys(shapes, "float32")
        if include_image:
            shapes["image"], dtypes["image"] = (*image_size, 3), "uint8"
        self.spec = DataSpec(ObsSpec(shapes, dtypes), action_dim)
        rng = seeding.generator(seed, "dummy-data")
        state = rng.standard_normal((num_samples, obs_dim), dtype=np.float32)
        weights = rng.standard_normal((obs_dim, action_dim), dtype=np.float32)
        actions = np.tanh(state @ weights / max(obs_dim, 1) ** 0.5)
        self._state, self._actions = torch.from_numpy(state), torch.from_numpy(actions)

    contract: EnvContract | None = None
    in_memory = True

    def __len__(self) -> int:
        return len(self._actions)

    @property
    def state_dim(self) -> int:
        return self._state.shape[1]

    @property
    def action_dim(self) -> int:
        return self.spec.action_dim

    def statistics(self) -> dict[str, Statistics]:
        """Of "state" and "actions"."""
        return {"state": Statistics.of(self._state), "actions": Statistics.of(self._actions)}

    def read(self, indices: torch.Tensor) -> dict[str, Any]:
        obs = {"state": self._state[indices]} if self.state_dim else {}
        if self.spec.obs.image_keys:
            rngs = [seeding.generator(self.seed, "dummy-image", int(i)) for i in indices]
            shape = self.spec.obs.shapes["image"]
            frames = np.stack([r.integers(0, 256, shape, dtype=np.uint8) for r in rngs])
            obs["image"] = as_image(torch.from_numpy(frames))
        batch: dict[str, Any] = {"observations": obs, "actions": self._actions[indices]}
        if self.seq_len > 1:
            batch["actions"] = batch["actions"][:, None].expand(-1, self.seq_len, -1)
            batch["mask"] = torch.ones(len(indices), self.seq_len, dtype=torch.bool)
        if self.include_language:
            batch["language"] = [f"do task {int(i) % 5}" for i in indices]
        return batch


def read_spec(data: EpisodeFile, obs_keys: list[str] | None = None) -> DataSpec:
    """What samples with `obs_keys` (all by default) will hold; vectors are (d,) float32.

    Raises:
      UserError: the file has no such observation, or an array of no use as one.
    """
    for key in obs_keys or ():
        if key not in data.obs_keys:
            raise unknown_name(f"observation of {data.path}:", key, data.obs_keys)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for key in sorted(obs_keys or data.obs_keys):
        shape = data.shape(0, f"obs/{key}")[1:]
        if is_image_key(key):
            shapes[key] = shape
            dtypes[key] = str(data.read(0, f"obs/{key}", 0, 1).dtype)
        elif len(shape) <= 1:
            shapes[key], dtypes[key] = shape or (1,), "float32"
        else:
            raise UserError(
                f"{data.path}: the observation {key!r} has rows of shape {shape}, neither vectors nor"
                " an image (whose name begins with `image`); leave it out with obs_keys."
            )
    action_shape = data.shape(0, "actions")[1:]
    if len(action_shape) != 1:
        raise UserError(f"{data.path}: an action has shape {action_shape}; expected a vector.")
    return DataSpec(ObsSpec(shapes, dtypes), action_shape[0], data.contract)


def _fill(rows: torch.Tensor, data: EpisodeFile, episodes: list[int], key: str) -> None:
    """Write an array of the given episodes, one after the other, into `rows` (steps, d)."""
    start = 0
    for i in episodes:
        values = data.read(i, key)
        values = values.reshape(len(values), -1)
        if values.shape[1] != rows.shape[1]:
            raise UserError(
                f"{data.path}: {key!r} of {data.episodes[i].name} has {values.shape[1]} columns, and"
                f" {rows.shape[1]} in the first episode; validate the file."
            )
        rows[start : start + len(values)] = torch.from_numpy(values.astype(np.float32, copy=False))
        start += len(values)
