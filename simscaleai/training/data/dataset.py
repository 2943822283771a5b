"""Trajectories as training samples.

    data = TrajectoryDataset("data/reach.h5", split="train")
    data[0]   # {"observations": {"ee_pos": (3,), ..., "state": (20,)}, "actions": (4,)}

A sample is one step of one episode: observations by key, `state` (all that are not images, in sorted
order), images as float (3, H, W) in [0, 1], and the action taken. With `seq_len` L the actions are those
of the L steps from there, (L, A), never from the next episode: past the end of its episode a window
repeats the last action, and `mask` (L,) is False there. With `obs_steps` H every observation has a leading
axis H, the last row of which is the present: before the start of its episode a window repeats the first
observation, and `obs_mask` (H,) is False there.

Vectors are read once and kept in memory, and so are images where `cache_mb` has room for them, when the
first batch is asked for. Other images are read when asked for, by every process through a file handle of
its own, so that the dataset can be sent to workers however they are started.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from simscaleai.actions import ActionRange
from simscaleai.contract import EnvContract
from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.models.normalization import Statistics
from simscaleai.observations import unflatten_state
from simscaleai.storage.episode import LABELS
from simscaleai.storage.episodes import EpisodeFile, open_dataset
from simscaleai.storage.step_reader import StepReader
from simscaleai.training.data.batch import BatchedDataset
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.frames import Frames, fits
from simscaleai.training.data.relabeling import Relabeling, find_sentences, own_requests
from simscaleai.training.data.spec import DataSpec, read_spec

__all__ = ["DataSpec", "DummyTrajectoryDataset", "TrajectoryDataset", "read_spec"]


_SAMPLED = 64  # images by which those of a camera are known again


class TrajectoryDataset(BatchedDataset):
    """Samples from an HDF5 file of episodes.

    Args:
      data_path: a file that `simscaleai.storage.episodes` reads, or one that it has opened.
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

    Attributes:
      action_range: of the actions, if they leave [-1, 1]; else None.

    Raises:
      UserError: the file is missing or no dataset, or lacks an observation.
    """

    @converted
    def __init__(
        self,
        data_path: str | Path | EpisodeFile,
        seq_len: int = 1,
        obs_keys: list[str] | None = None,
        include_language: bool = False,
        transform: Any = None,
        split: str = "all",
        *,
        obs_steps: int = 1,
        cache_mb: float | None = None,
        images: Mapping[str, str] | None = None,
        privileged_keys: Sequence[str] = (),
        relabel: float = 0.0,
        seed: int = 0,
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
            self.spec = read_spec(data, obs_keys)
            privileged = read_spec(data, list(privileged_keys)).obs if privileged_keys else None
            self.episodes = data.split(split)
            lengths = [data.episodes[i].length for i in self.episodes]
            self._language = [data.episodes[i].language for i in self.episodes]
            names = dict.fromkeys([*self.spec.obs.shapes, *privileged_keys])
            keys = [*(f"obs/{key}" for key in names), "actions"]
            sentences = find_sentences(data) if relabel else []
            keys += [LABELS] if relabel else []
            columns = data.columns(self.episodes, keys)
            readers = {key: StepReader(data, self.episodes, key, columns) for key in keys}
        self._state = torch.zeros(sum(lengths), self.state_dim)
        for key, part in unflatten_state(self._state, self.spec.obs).items():
            _fill(part, readers[f"obs/{key}"])
        self._actions = torch.zeros(sum(lengths), self.spec.action_dim)
        _fill(self._actions, readers["actions"])
        self._privileged: dict[str, torch.Tensor] = {}
        for key in privileged_keys:
            assert privileged is not None
            self._privileged[key] = torch.zeros(sum(lengths), math.prod(privileged.shapes[key]))
            _fill(self._privileged[key], readers[f"obs/{key}"])
        self._labels = torch.zeros(sum(lengths), len(sentences) * self.spec.action_dim)
        if relabel:
            _fill(self._labels, readers[LABELS])
        for name, values in self._vectors():
            if not values.isfinite().all():
                raise UserError(
                    f"{self.path}: {name} has NaN or infinite values; see `simscale validate`."
                )
        self.action_range = self._find_action_range()
        readers = {k: readers[f"obs/{k}"] for k in self.spec.obs.image_keys}
        keep = fits(list(readers.values()), cache_mb)
        self._frames = {k: Frames(reader, keep) for k, reader in readers.items()}
        counts = torch.tensor(lengths, dtype=torch.int64)
        ends = counts.cumsum(0)
        self._episode = torch.arange(len(lengths)).repeat_interleave(counts)
        self._start, self._end = (ends - counts)[self._episode], ends[self._episode]
        self._relabeling: Relabeling | None = None
        if relabel:
            labels = self._labels.unflatten(1, (len(sentences), -1))  # (N, K, A)
            # which request the recorded actions follow, and so whose chunk is known
            own = torch.tensor(own_requests(self._language, sentences), dtype=torch.int64)
            own = own[self._episode]  # (N,)
            self._relabeling = Relabeling(labels, sentences, own, relabel, seed)

    def __len__(self) -> int:
        return len(self._actions) if self._relabeling is None else len(self._relabeling)

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
        if not len(self._actions):
            return None
        low, high = (bound.numpy() for bound in self._actions.aminmax(dim=0))
        try:
            return ActionRange.recorded(low, high, self.contract)
        except UserError as error:
            raise UserError(f"{self.path}: {error}; record them again.") from None

    def _vectors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield everything but the images, by the name that errors and digests have for it."""
        yield "state", self._state
        yield "actions", self._actions
        if self._labels.shape[1]:
            yield "labels", self._labels
        for key, values in self._privileged.items():
            yield f"privileged {key}", values

    def prepare(self) -> None:
        """Take the images into memory, if they fit; not in a worker, where many would do it."""
        if get_worker_info() is None:
            for frames in self._frames.values():
                frames.load()

    def identity(self) -> dict[str, Any]:
        return self._identity

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """Return what a run that goes on compares: counts, and digests of all values.

        Of images they are of `_SAMPLED` of each camera, spread over the steps.
        """
        digest = {
            name: hashlib.sha256(values.numpy().data).hexdigest()
            for name, values in self._vectors()
        }
        episodes = json.dumps([self._language, self._end.unique().tolist()])
        digest["episodes"] = hashlib.sha256(episodes.encode()).hexdigest()
        steps = len(self._actions)
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
        shown = self._state if features is None else features(self._state)
        actions = self._actions
        if self._relabeling is not None:  # those of other instructions may reach further
            actions = torch.cat([actions, self._relabeling.labels.flatten(0, 1)])
        return {"state": Statistics.of(shown), "actions": Statistics.of(actions)}

    def read(self, indices: torch.Tensor) -> dict[str, Any]:
        """A batch: rows of what lies in memory, and frames from there or from the file."""
        batch: dict[str, Any] = {}
        # (B,) each: samples are numbered by step and request, what follows reads steps
        steps, requests = indices, None
        if self._relabeling is not None:
            steps, requests = self._relabeling.draw(indices)
        rows = steps
        if self.obs_steps > 1:
            window = steps[:, None] + torch.arange(1 - self.obs_steps, 1)
            starts = self._start[steps][:, None]
            rows = window.maximum(starts)
            batch["obs_mask"] = window >= starts
        obs: dict[str, Any] = {}
        if self.spec.obs.state_keys:
            state = _at(self._state, rows)
            obs = {**unflatten_state(state, self.spec.obs), "state": state}
        obs |= {key: frames.take(rows) for key, frames in self._frames.items()}
        batch |= {"observations": obs, **self._targets(steps, requests)}
        if self._privileged:  # of the present step, whatever obs_steps is
            batch["privileged"] = {k: _at(v, steps) for k, v in self._privileged.items()}
        if self.include_language:
            language = [self._language[e] for e in self._episode[steps].tolist()]
            if self._relabeling is not None and requests is not None:
                language = self._relabeling.instructions(indices, requests, language)
            batch["language"] = language
        return batch

    def first_steps(self, count: int) -> dict[str, Any]:
        """Return the first steps of up to `count` episodes, spread over the split, as they were recorded.

        Returns:
          "observations" {key: (n, ...)} with images as stored, "actions" (n, action_dim) and "language".
        """
        recorded = copy.copy(self)
        recorded.seq_len = recorded.obs_steps = 1
        recorded.include_language, recorded._relabeling, recorded._privileged = True, None, {}
        starts = self._start.unique()
        chosen = torch.linspace(0, max(len(starts) - 1, 0), min(count, len(starts))).round().long()
        return recorded.read(starts[chosen])

    def _targets(
        self, steps: torch.Tensor, requests: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """Return the "actions" of steps (B,) and, of chunks, their "mask"; for `requests` (B,) if given."""
        if self.seq_len == 1:
            actions = _at(self._actions, steps)
            if self._relabeling is not None and requests is not None:
                actions = self._relabeling.actions(steps, requests, actions)
            return {"actions": actions}
        window = steps[:, None] + torch.arange(self.seq_len)
        ends = self._end[steps][:, None]
        inside, mask = window.minimum(ends - 1), window < ends  # (B, L)
        actions = _at(self._actions, inside)  # (B, L, A)
        if self._relabeling is not None and requests is not None:
            actions, mask = self._relabeling.chunks(inside, requests, actions, mask)
        return {"actions": actions, "mask": mask}


def _opened(
    path: str | Path | EpisodeFile, images: Mapping[str, str] | None
) -> AbstractContextManager[EpisodeFile]:
    """The file, which is closed in the end unless it was open before."""
    return nullcontext(path) if isinstance(path, EpisodeFile) else open_dataset(path, images)


def _at(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Rows of `values` (N, d) for numbers of any shape, (*rows.shape, d)."""
    return values.index_select(0, rows.reshape(-1)).view(*rows.shape, values.shape[1])


def _fill(rows: torch.Tensor, reader: StepReader) -> None:
    """Write an array of all episodes into `rows` (steps, d)."""
    width = math.prod(reader.shape)
    if width != rows.shape[1]:
        raise UserError(
            f"{reader.path}: {reader.key!r} has rows of {width} numbers, and of {rows.shape[1]} in the first"
            " episode; validate the file."
        )
    with closing(reader):
        values = reader.read_all().reshape(rows.shape)
    rows[:] = torch.from_numpy(values.astype(np.float32, copy=False))
