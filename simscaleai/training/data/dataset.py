"""Trajectories as training samples.

    data = TrajectoryDataset("data/reach.h5", split="train")
    data[0]   # {"observations": {"ee_pos": (3,), ..., "state": (20,)}, "actions": (4,)}

A sample is one step of one episode: observations by key, `state` (all that are not images, in sorted
order), images as float (3, H, W) in [0, 1], and the action taken. With `seq_len` L the actions are those
of the L steps from there, (L, A), never from the next episode: past the end of its episode a window
repeats the last action, and `mask` (L,) is False there. With `obs_steps` H every observation has a leading
axis H, the last row of which is the present: before the start of its episode a window repeats the first
observation, and `obs_mask` (H,) is False there.

Vectors of a file are read once and kept in memory, and so are images where `cache_mb` has room for them,
when the first batch is asked for. Of a folder of shards, vectors too are kept where `cache_mb` has room,
and read in blocks otherwise (see `sampler`). Other images are read when asked for, by every process through
a file handle of its own, so that the dataset can be sent to workers however they are started.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.utils.data import get_worker_info

from simscaleai.actions import ActionRange
from simscaleai.contract import EnvContract
from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.models.normalization import Statistics
from simscaleai.observations import unflatten_state
from simscaleai.storage.episode import OBS
from simscaleai.storage.episodes import EpisodeFile, EpisodeSource, ShardedDataset, open_dataset
from simscaleai.storage.shard_reader import OPEN_SHARDS, ShardArray, ShardReader
from simscaleai.storage.step_reader import StepReader
from simscaleai.tensor_types import Batch, StateDict, Tensors
from simscaleai.training.data.batch import BatchedDataset, Transform
from simscaleai.training.data.drawn_frames import Drawer, DrawnFrames, DrawnSteps
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.frames import FrameReader, Frames, cache_bytes, fits
from simscaleai.training.data.relabeling import Relabeling, find_sentences, own_requests
from simscaleai.training.data.sampler import Blocks
from simscaleai.training.data.sharded_vectors import ShardedVectors
from simscaleai.training.data.spec import DataSpec, read_spec
from simscaleai.training.data.step_values import Labels, PerStep
from simscaleai.training.data.vector_layout import VectorLayout
from simscaleai.training.data.vectors import FileVectors, Vectors

__all__ = ["DataSpec", "DummyTrajectoryDataset", "TrajectoryDataset", "read_spec"]


BLOCK_BYTES = 256 * 2**20
"""Decoded bytes of the samples of a folder that are shuffled together: whole shards, at least so many."""
BLOCK_SAMPLES = 2**17
"""A block of so many samples needs no more bytes."""
_SAMPLED = 64  # images by which those of a camera are known again


class TrajectoryDataset(BatchedDataset):
    """Samples from a dataset of episodes: an HDF5 file, or a folder of shards.

    Args:
      data_path: what `simscaleai.storage.episodes.open_dataset` takes, or has opened.
      seq_len: actions of one sample; 1 gives (A,), more gives (L, A) and `mask`.
      obs_keys: which observations to use; by default all.
      include_language: add the episode's instruction as "language".
      transform: applied to every single sample; reading whole batches at once is then given up.
      split: "train", "valid" or "all" episodes.
      obs_steps: observations of one sample, up to the present one; 1 gives (d,), more gives (H, d).
      cache_mb: MiB of memory for images; they are kept if all fit. By default what the machine can spare
        (see `frames.fits`); 0 reads them from the file always.
      images: {camera: observation} to read as `images/<camera>`; see `open_dataset`.
      relabel: fraction of the samples whose instruction is drawn anew, with the expert's action for it; above
        0 there are K samples of each step, for K requests. See `relabeling`.
      seed: of these draws.
      privileged_keys: vectors to give as "privileged" besides the observations; see `models.declarations`.
      drawer: draws images that are not recorded; see `drawn_frames`.

    Attributes:
      action_range: of the actions, if they leave [-1, 1]; else None.
      draws: whether images are drawn when they are asked for.

    Raises:
      UserError: the file is missing or no dataset, or lacks an observation.
    """

    @converted
    def __init__(
        self,
        data_path: str | Path | EpisodeSource,
        seq_len: int = 1,
        obs_keys: list[str] | None = None,
        include_language: bool = False,
        transform: Transform | None = None,
        split: str = "all",
        *,
        obs_steps: int = 1,
        cache_mb: float | None = None,
        images: Mapping[str, str] | None = None,
        privileged_keys: Sequence[str] = (),
        relabel: float = 0.0,
        seed: int = 0,
        drawer: Drawer | None = None,
    ) -> None:
        if seq_len < 1:
            raise UserError(f"seq_len is {seq_len}; a sample holds at least 1 action.")
        if obs_steps < 1:
            raise UserError(f"obs_steps is {obs_steps}; a sample holds at least 1 observation.")
        if not 0 <= relabel <= 1:
            raise UserError(f"relabel is {relabel}; it is a fraction between 0 and 1.")
        self.seq_len, self.obs_steps = seq_len, obs_steps
        self.include_language = include_language
        self.transform = transform
        with _opened(data_path, images) as data:
            self.path = data.path
            self.spec = read_spec(data, obs_keys, drawer)
            privileged = (
                read_spec(data, list(privileged_keys)).obs.shapes if privileged_keys else {}
            )
            sentences = find_sentences(data) if relabel else []
            self._layout = VectorLayout(
                self.spec.obs, dict(privileged), self.spec.action_dim, len(sentences)
            )
            self.episodes = data.split(split)
            lengths = data.lengths[np.asarray(self.episodes, np.int64)]
            said = data.instructions
            self._language = [said[i] for i in self.episodes]
            counts = torch.from_numpy(lengths)
            self._ends = counts.cumsum(0)  # (episodes,)
            self._starts = self._ends - counts
            self._blocks: Blocks | None = None
            drawn = (
                [] if drawer is None else [k for k in drawer.shapes if k in self.spec.obs.shapes]
            )
            self._recorded_images = [k for k in self.spec.obs.image_keys if k not in drawn]
            if isinstance(data, ShardedDataset):
                self._vectors, frames = self._of_shards(data, split, cache_mb)
            else:
                assert isinstance(data, EpisodeFile)
                self._vectors, frames = self._of_file(data, int(lengths.sum()))
        if drawer is not None and drawn:
            source = DrawnSteps(drawer, self.episodes, lengths.tolist())
            frames |= {key: DrawnFrames(source, key) for key in drawn}
        self.draws = bool(drawn)
        self._privileged = list(privileged)
        self.action_range = self._find_action_range()
        keep = fits(list(frames.values()), cache_mb)
        self._frames = {k: Frames(reader, keep) for k, reader in frames.items()}
        self._relabeling: Relabeling | None = None
        if relabel:
            # which request the recorded actions follow, and so whose chunk is known
            own = torch.tensor(own_requests(self._language, sentences), dtype=torch.int64)
            labels, per_step = Labels(self._vectors, self._layout), PerStep(own, self._ends)
            self._relabeling = Relabeling(labels, sentences, per_step, relabel, seed)

    def _of_file(self, data: EpisodeFile, steps: int) -> tuple[Vectors, dict[str, FrameReader]]:
        """Return the vectors of a file, and readers of its images."""
        images = {key: OBS + key for key in self._recorded_images}
        keys = [*self._layout.keys, *images.values()]
        columns = data.columns(self.episodes, keys)
        readers = {key: StepReader(data, self.episodes, key, columns) for key in keys}
        vectors = FileVectors(self._layout, readers, steps)
        return vectors, {key: readers[path] for key, path in images.items()}

    def _of_shards(
        self, data: ShardedDataset, split: str, cache_mb: float | None
    ) -> tuple[Vectors, dict[str, FrameReader]]:
        """Return the vectors of a folder, and readers of its images; note how samples lie in shards."""
        images = {key: OBS + key for key in self._recorded_images}
        reader = ShardReader(data, self.episodes, [*self._layout.keys, *images.values()])
        step_nbytes = 4 * sum(self._layout.widths.values())
        # readers of their own: those of images stay open, while vectors are read at once
        frames = {
            key: ShardArray(ShardReader(data, self.episodes, [path]), path)
            for key, path in images.items()
        }
        step_nbytes += sum(math.prod(a.shape) * a.dtype.itemsize for a in frames.values())
        # all shards of the first block are read before the first step
        least = max(1, min(BLOCK_BYTES // step_nbytes, BLOCK_SAMPLES))
        largest = int(reader.shard_steps.max(initial=1))
        # the present block and the one before stay in memory whatever the budget is
        needed = (2 * (least + largest) + largest) * 4 * sum(self._layout.widths.values())
        vectors = ShardedVectors(self._layout, reader, split, cache_bytes(cache_mb), needed)
        # K samples of each step for K requests, one after the other
        samples = reader.shard_steps * max(self._layout.requests, 1)
        self._blocks = Blocks(samples.tolist(), least, vectors.announce)
        for array in frames.values():
            array.reader.open_shards = max(OPEN_SHARDS, 2 * (least // largest + 1))
        return vectors, dict(frames)

    @property
    def relabels(self) -> bool:
        """Whether samples get instructions drawn anew, beside those of their episodes."""
        return self._relabeling is not None

    def __len__(self) -> int:
        return len(self._vectors) if self._relabeling is None else len(self._relabeling)

    @property
    def blocks(self) -> Blocks | None:
        return self._blocks

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
        """Whether batches come from memory, from the second one on at the latest."""
        return all(frames.keep for frames in self._frames.values())

    def _find_action_range(self) -> ActionRange | None:
        """The range of the actions of this split, if they leave [-1, 1]; UserError if they must not."""
        if not len(self._vectors):
            return None
        low, high = self._vectors.action_bounds()
        try:
            return ActionRange.recorded(low, high, self.contract)
        except UserError as error:
            raise UserError(f"{self.path}: {error}; record them again.") from None

    def prepare(self) -> None:
        """Take the images into memory, if they fit; not in a worker, where many would do it."""
        if get_worker_info() is None:
            for frames in self._frames.values():
                frames.load()

    def identity(self) -> JsonDict:
        return self._identity

    @cached_property
    def _identity(self) -> JsonDict:
        """Return what a run that goes on compares: counts, and digests of all values.

        Of images they are of `_SAMPLED` of each camera, spread over the steps.
        """
        digest = self._vectors.digests()
        episodes = json.dumps([self._language, self._ends.tolist()])
        digest["episodes"] = hashlib.sha256(episodes.encode()).hexdigest()
        steps = len(self._vectors)
        rows = torch.linspace(0, max(steps - 1, 0), _SAMPLED).round().long().unique()
        for key, frames in self._frames.items() if steps else ():
            digest[key] = hashlib.sha256(frames.take(rows).numpy().data).hexdigest()
            frames.reader.close()
        return {
            "path": str(self.path.resolve()),
            "count": {"episodes": len(self.episodes), "steps": steps},
            "digest": digest,
        }

    def statistics(
        self, features: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> dict[str, Statistics]:
        """Of "state", or of the `features` of it, and "actions", over every step of this split."""
        return {
            "state": self._vectors.statistics("state", features),
            "actions": self._vectors.statistics("actions"),
        }

    def read(self, indices: torch.Tensor) -> Batch:
        """A batch: rows of what lies in memory, and frames from there or from the file."""
        batch: StateDict = {}
        take = self._vectors.take
        # (B,) each: samples are numbered by step and request, what follows reads steps
        steps, requests = indices.contiguous(), None
        if self._relabeling is not None:
            steps, requests = self._relabeling.draw(steps)
        episode = torch.searchsorted(self._ends, steps, right=True)  # (B,)
        rows = steps
        if self.obs_steps > 1:
            window = steps[:, None] + torch.arange(1 - self.obs_steps, 1)  # (B, obs_steps)
            starts = self._starts[episode][:, None]
            rows = window.maximum(starts)  # the first step again, before the episode begins
            batch["obs_mask"] = window >= starts
        obs: Tensors = {}
        if self.spec.obs.state_keys:
            state = take("state", rows)  # (B, d), or (B, H, d) of a window
            obs = {**unflatten_state(state, self.spec.obs), "state": state}
        obs |= {key: frames.take(rows) for key, frames in self._frames.items()}
        batch |= {"observations": obs, **self._targets(steps, self._ends[episode], requests)}
        if self._privileged:  # of the present step, whatever obs_steps is
            batch["privileged"] = {k: take(f"privileged {k}", steps) for k in self._privileged}
        if self.include_language:
            language = [self._language[e] for e in episode.tolist()]
            if self._relabeling is not None and requests is not None:
                language = self._relabeling.instructions(indices, requests, language)
            batch["language"] = language
        return cast(Batch, batch)

    def first_steps(self, count: int) -> Batch:
        """Return the first steps of up to `count` episodes, spread over the split, as they were recorded.

        Returns:
          "observations" {key: (n, ...)} with images as stored, "actions" (n, action_dim) and "language".
        """
        # a shallow copy shares the tables and frames, and reads single steps from them
        recorded = copy.copy(self)
        recorded.seq_len = recorded.obs_steps = 1
        recorded.include_language, recorded._relabeling, recorded._privileged = True, None, []
        starts = self._starts
        chosen = torch.linspace(0, max(len(starts) - 1, 0), min(count, len(starts))).round().long()
        steps = recorded.read(starts[chosen])
        for frames in self._frames.values():  # workers shall not inherit an open file
            frames.reader.close()
        return steps

    def _targets(
        self, steps: torch.Tensor, ends: torch.Tensor, requests: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """Return the "actions" of steps (B,) and, of chunks, their "mask"; for `requests` (B,) if given.

        `ends` (B,) are the steps at which the next episodes begin.
        """
        if self.seq_len == 1:
            actions = self._vectors.take("actions", steps)
            if self._relabeling is not None and requests is not None:
                actions = self._relabeling.actions(steps, requests, actions)
            return {"actions": actions}
        window = steps[:, None] + torch.arange(self.seq_len)  # (B, L)
        last = ends[:, None] - 1
        inside, mask = window.minimum(last), window <= last  # (B, L)
        actions = self._vectors.take("actions", inside)  # (B, L, A)
        if self._relabeling is not None and requests is not None:
            actions, mask = self._relabeling.chunks(inside, requests, actions, mask)
        return {"actions": actions, "mask": mask}


def _opened(
    path: str | Path | EpisodeSource, images: Mapping[str, str] | None
) -> AbstractContextManager[EpisodeSource]:
    """Return the dataset, which is closed in the end unless it was open before."""
    return nullcontext(path) if isinstance(path, EpisodeSource) else open_dataset(path, images)
