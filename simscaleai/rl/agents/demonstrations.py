"""Demonstrations that an agent keeps imitating while it learns from reward.

    demonstrations = Demonstrations("data/fifty.h5", {"ee_pos": (3,), "images/front_cam": (64, 64, 3)})
    obs, actions = demonstrations.batch(32, generator)   # {key: (32, ...)} and (32, action_dim)

A cloned policy forgets what it can do before reward says so: the first gradients are mostly noise. Imitation
beside reinforcement learning prevents that (Rajeswaran et al., "Learning Complex Dexterous Manipulation with
Deep Reinforcement Learning and Demonstrations", RSS 2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from simscaleai.array_types import Array, ArrayDict
from simscaleai.errors import UserError
from simscaleai.memory import require_memory
from simscaleai.storage.episodes import open_dataset


class Demonstrations:
    """All steps of a dataset, in memory.

    Args:
      path: the dataset.
      shapes: {key: shape} of the observations to read.

    Attributes:
      obs: {key: (N, ...)} as recorded.
      actions: (N, action_dim) as recorded.

    Raises:
      UserError: the dataset lacks an observation, or has it in another shape.
    """

    def __init__(self, path: str, shapes: Mapping[str, Sequence[int]]) -> None:
        with open_dataset(path) as data:
            if missing := [key for key in shapes if key not in data.obs_keys]:
                raise UserError(
                    f"{path} does not observe {', '.join(missing)}, which the agent reads; record"
                    " demonstrations with the cameras and the task of the run."
                )
            episodes = range(len(data.episodes))
            step_size = sum(map(math.prod, shapes.values()))
            require_memory(int(data.lengths.sum()) * step_size, f"The dataset {path}")

            def read(key: str) -> Array:
                return np.concatenate([data.read(i, key) for i in episodes])

            self.obs: ArrayDict = {key: read(f"obs/{key}") for key in shapes}
            self.actions = read("actions")
        for key, shape in shapes.items():
            if (found := self.obs[key].shape[1:]) != tuple(shape):
                raise UserError(
                    f"{path} has {key} in the shape {found}, and the environment in {tuple(shape)}."
                )

    def batch(self, size: int, generator: torch.Generator) -> tuple[ArrayDict, Array]:
        """Return (observations {key: (size, ...)}, actions (size, action_dim)) of random steps."""
        chosen = torch.randint(len(self.actions), (size,), generator=generator).numpy()
        return {key: values[chosen] for key, values in self.obs.items()}, self.actions[chosen]
