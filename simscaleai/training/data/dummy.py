"""Synthetic samples, for trying a model without data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from simscaleai import seeding
from simscaleai.actions import ActionRange
from simscaleai.contract import EnvContract
from simscaleai.convert import converted
from simscaleai.models.normalization import Statistics
from simscaleai.observations import ObsSpec
from simscaleai.tensor_types import Batch
from simscaleai.training.data.batch import BatchedDataset
from simscaleai.training.data.spec import DataSpec


class DummyTrajectoryDataset(BatchedDataset):
    """Samples in which the action is a fixed function of the state; nothing changes over time.

    Args:
      num_samples: how many.
      obs_dim: width of "state".
      action_dim: width of an action, in (-1, 1).
      image_size: (height, width) of each image.
      include_image, include_language: add images (3, H, W) in [0, 1], or "language".
      seed: the same seed gives the same samples.
      seq_len, obs_steps: as of `TrajectoryDataset`.
      image_keys: which observations are images.
      privileged_keys: positions to give as "privileged", random ones of about 10 cm.
    """

    action_range: ActionRange | None = None  # within [-1, 1]

    @converted
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
        obs_steps: int = 1,
        image_keys: Sequence[str] = ("image",),
        privileged_keys: Sequence[str] = (),
    ) -> None:
        self.seed, self.seq_len, self.obs_steps = seed, seq_len, obs_steps
        self.include_language = include_language
        shapes: dict[str, tuple[int, ...]] = {"state": (obs_dim,)} if obs_dim else {}
        dtypes = dict.fromkeys(shapes, "float32")
        for key in image_keys if include_image else ():
            shapes[key], dtypes[key] = (*image_size, 3), "uint8"
        self.spec = DataSpec(ObsSpec(shapes, dtypes), action_dim)
        rng = seeding.generator(seed, "dummy-data")
        state = rng.standard_normal((num_samples, obs_dim), dtype=np.float32)
        weights = rng.standard_normal((obs_dim, action_dim), dtype=np.float32)
        # divided by the root of the width, so that few actions saturate near -1 and 1
        actions = np.tanh(state @ weights / max(obs_dim, 1) ** 0.5)
        self._privileged = {
            key: torch.from_numpy(0.1 * rng.standard_normal((num_samples, 3), dtype=np.float32))
            for key in privileged_keys
        }
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

    def statistics(
        self, features: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> dict[str, Statistics]:
        """Of "state", or of the `features` of it, and "actions"."""
        shown = self._state if features is None else features(self._state)
        return {"state": Statistics.of(shown), "actions": Statistics.of(self._actions)}

    def read(self, indices: torch.Tensor) -> Batch:
        obs = {"state": self._state[indices]} if self.state_dim else {}
        for key in self.spec.obs.image_keys:
            stream = f"dummy-{key}"
            # a generator for each sample: images are the same in any order, and none is kept in memory
            rngs = [seeding.generator(self.seed, stream, int(i)) for i in indices]
            shape = self.spec.obs.shapes[key]
            frames = [rng.integers(0, 256, shape, dtype=np.uint8) for rng in rngs]
            obs[key] = torch.from_numpy(np.stack(frames))
        batch: Batch = {"observations": obs, "actions": self._actions[indices]}
        if self.obs_steps > 1:
            batch["observations"] = {k: _repeat(v, self.obs_steps) for k, v in obs.items()}
            # each sample is an episode of its own in which nothing changes, so no window is cut
            batch["obs_mask"] = torch.ones(len(indices), self.obs_steps, dtype=torch.bool)
        if self.seq_len > 1:
            batch["actions"] = _repeat(batch["actions"], self.seq_len)
            batch["mask"] = torch.ones(len(indices), self.seq_len, dtype=torch.bool)
        if self._privileged:
            batch["privileged"] = {k: v[indices] for k, v in self._privileged.items()}
        if self.include_language:
            batch["language"] = [f"do task {int(i) % 5}" for i in indices]
        return batch


def _repeat(values: torch.Tensor, steps: int) -> torch.Tensor:
    """(B, ...) -> (B, steps, ...)."""
    # a view: the steps are all the same, and no memory is taken for them
    return values[:, None].expand(-1, steps, *values.shape[1:])
