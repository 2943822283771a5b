"""How fast batches come: ours, and what most projects write, from the same file.

    for speed in bench_loader("data/reach.h5", batch_size=256):
        print(speed.name, speed.samples_per_second)

What most projects write is a `Dataset` that opens the file once and reads one sample at a time from
it, or that keeps the vectors in memory and reads the images one at a time (as robomimic does), and
the default `DataLoader`. All loaders hand over the same samples in shuffled order, with images as
floats on the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from simscaleai.array_types import Array, ArrayDict
from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.storage.episodes import open_dataset
from simscaleai.tensor_types import Batch, Tensors
from simscaleai.training.data import workers
from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.data.loader import make_loader, to_device
from simscaleai.training.data.spec import picture_keys
from simscaleai.training.data.stream import batch_size as samples_of

_ROUNDS = 3


@dataclass(frozen=True)
class LoaderSpeed:
    """Of one loader.

    Attributes:
      name: what it is.
      samples_per_second: after the first batch; the median of the rounds.
      megabytes_per_second: of decoded samples, 10^6 bytes; images counted as the bytes they are
        stored as.
      first_batch_seconds: from asking for it, in a fresh loader, until it is there.
    """

    name: str
    samples_per_second: float
    megabytes_per_second: float
    first_batch_seconds: float


class PerSampleDataset(Dataset[Batch]):
    """One sample at a time from an open `h5py.File`, as most projects write it.

    Args:
      data_path: a dataset; trusted, so let `TrajectoryDataset` have opened it before.
      seq_len: actions of one sample.
      vectors_in_memory: read all but the images in advance.
    """

    def __init__(
        self, data_path: str | Path, seq_len: int = 1, vectors_in_memory: bool = False
    ) -> None:
        self.path, self.seq_len = data_path, seq_len
        self._files: dict[Path, h5py.File] = {}
        with open_dataset(data_path) as data:
            self.keys = data.obs_keys
            self._pictures = {f"obs/{key}" for key in picture_keys(data)}
            arrays = ["actions", *(f"obs/{key}" for key in self.keys)]
            self._paths = {key: data.path_of(key) for key in arrays}
            vectors = [key for key in arrays if key not in self._pictures]
            self._samples: list[tuple[int, int]] = []
            self._places = [data.place(i) for i in range(len(data))]
            self._memory: list[ArrayDict] = []
            for i, episode in enumerate(data.episodes):
                self._samples += [(i, t) for t in range(episode.length)]
                if vectors_in_memory:
                    self._memory.append({k: data.read(i, k) for k in vectors})

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, idx: int) -> Batch:
        try:
            return self._sample(*self._samples[idx])
        except (OSError, KeyError, RuntimeError) as error:
            raise UserError(f"{self.path} cannot be read ({error}); validate the file.") from error

    def _sample(self, i: int, t: int) -> Batch:
        obs: Tensors = {}
        for key in self.keys:
            value = torch.as_tensor(self._array(i, f"obs/{key}")[t])
            if f"obs/{key}" in self._pictures and value.dtype == torch.uint8:
                value = value.permute(2, 0, 1).float() / 255  # (3, H, W) in [0, 1]
            obs[key] = value
        actions = self._array(i, "actions")
        if self.seq_len == 1:
            return {"observations": obs, "actions": torch.as_tensor(actions[t])}
        window = actions[t : t + self.seq_len]  # (up to L, A)
        missing = self.seq_len - len(window)
        if missing:
            # as `TrajectoryDataset` does, so that all loaders hand over the same samples
            window = np.concatenate([window, np.repeat(window[-1:], missing, axis=0)])
        mask = torch.arange(self.seq_len) < self.seq_len - missing
        return {"observations": obs, "actions": torch.as_tensor(window), "mask": mask}

    def _array(self, i: int, key: str) -> Array | h5py.Dataset:
        if self._memory and key in self._memory[i]:
            return self._memory[i][key]
        path, group = self._places[i]
        # opened at the first sample, so that each worker opens the file for itself
        if path not in self._files:
            self._files[path] = h5py.File(path, "r")
        return self._files[path][f"{group}/{self._paths[key]}"]


@converted
def bench_loader(
    data_path: str | Path,
    batch_size: int = 256,
    num_workers: int = 0,
    seq_len: int = 1,
    seconds: float = 3.0,
    cache_mb: float | None = None,
) -> list[LoaderSpeed]:
    """Measure every loader on a dataset, in turns; ours first, and last the ones that go per sample.

    Args:
      data_path: HDF5 file of episodes.
      batch_size, seq_len: of every loader.
      num_workers: of every loader that reads from the file.
      seconds: of measuring each.
      cache_mb: as of `TrajectoryDataset`.

    Raises:
      UserError: the file is no dataset.
    """
    ours = TrajectoryDataset(data_path, seq_len, cache_mb=cache_mb)
    has_images = bool(ours.spec.obs.image_keys)
    loaders: dict[str, DataLoader[Batch]] = {}
    if ours.in_memory:
        loaders["simscaleai, from memory"] = make_loader(ours, batch_size)
    if has_images:
        from_file = TrajectoryDataset(data_path, seq_len, cache_mb=0)
        loaders["simscaleai, from the file"] = make_loader(
            from_file, batch_size, num_workers=num_workers
        )
    for name, in_memory in (("vectors kept", True), ("from HDF5", False)):
        loaders[f"per sample, {name}"] = DataLoader(
            PerSampleDataset(data_path, seq_len, in_memory),
            batch_size,
            shuffle=True,
            # vectors in memory are cut out faster than a worker can hand them over
            num_workers=num_workers if has_images or not in_memory else 0,
            generator=torch.Generator().manual_seed(0),
        )
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    # in turns and not one after the other: other load on the machine then slows all loaders alike
    for _ in range(_ROUNDS):
        for name, loader in loaders.items():
            with workers.one_sentence():
                rounds[name].append(measure(loader, seconds / _ROUNDS))
    megabytes = sample_bytes(ours) / 1e6
    speeds = []
    for name, found in rounds.items():
        rate = median(speed for speed, _ in found)
        speeds.append(LoaderSpeed(name, rate, rate * megabytes, found[0][1]))
    return speeds


def measure(loader: Iterable[object], seconds: float) -> tuple[float, float]:
    """Samples per second of a loader, over epoch after epoch, and seconds to its first batch."""
    cpu = torch.device("cpu")
    begin = time.perf_counter()
    first = math.nan
    samples = 0
    while True:
        for batch in workers.start(loader):
            # images become floats in here, which the other loaders have done before they hand over
            size = samples_of(to_device(batch, cpu))
            now = time.perf_counter()
            # the first batch includes the start of workers and the read into memory; it counts apart
            if math.isnan(first):
                first, start = now - begin, now
                continue
            samples += size
            if now - start >= seconds:
                return samples / (now - start), first


def sample_bytes(data: TrajectoryDataset) -> int:
    """Of one decoded sample: observations as they are stored, and its actions."""
    spec = data.spec
    obs = sum(
        math.prod(s) * np.dtype(spec.obs.dtypes[k]).itemsize for k, s in spec.obs.shapes.items()
    )
    return obs + 4 * spec.action_dim * data.seq_len
