"""Which vectors of a dataset are read, and the tables that hold them; see `vectors`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from simscaleai.array_types import Array
from simscaleai.errors import UserError
from simscaleai.observations import ObsSpec, unflatten_state
from simscaleai.storage.episode import LABELS, OBS

Tables = dict[str, torch.Tensor]
"""{"state", "actions", "labels" or "privileged <key>": (steps, d) float32}."""


@dataclass(frozen=True)
class VectorLayout:
    """Which vectors are read.

    Attributes:
      obs: the observations; those that are no images make up the state.
      privileged: vectors beside it, {key: shape}.
      action_dim: width of an action.
      requests: number of instructions with a label, the expert's action; 0 to read no labels.
    """

    obs: ObsSpec
    privileged: dict[str, tuple[int, ...]]
    action_dim: int
    requests: int = 0

    @cached_property
    def widths(self) -> dict[str, int]:
        """{table: d}."""
        named = {f"privileged {k}": math.prod(shape) for k, shape in self.privileged.items()}
        if self.requests:
            named["labels"] = self.requests * self.action_dim  # (K, A) of a step, flattened
        return {"state": self.obs.state_dim, "actions": self.action_dim, **named}

    @cached_property
    def keys(self) -> list[str]:
        """The arrays of a dataset that are read."""
        vectors = dict.fromkeys([*self.obs.state_keys, *self.privileged])
        labels = [LABELS] if self.requests else []
        return [*(OBS + key for key in vectors), "actions", *labels]

    def fill(self, tables: Tables, read: Callable[[str], Array], source: Path) -> None:
        """Write all vectors into `tables`; `read` gives an array (steps, ...) by its key.

        Raises:
          UserError: an array has another width, or values that are not finite.
        """
        # Views of the table: each array is written to its columns without another copy, and with NumPy, since
        # a thread that reads ahead must not start threads of PyTorch's beside those that train.
        parts = {OBS + k: v for k, v in unflatten_state(tables["state"], self.obs).items()}
        parts["actions"] = tables["actions"]
        if self.requests:
            parts[LABELS] = tables["labels"]
        for key, part in parts.items():
            part.numpy()[:] = _as_table(read(key), part.shape, key, source)
        for key in self.privileged:
            table = tables[f"privileged {key}"]
            table.numpy()[:] = _as_table(read(OBS + key), table.shape, OBS + key, source)
        # one NaN would spread to all weights at the first step of the optimizer
        for name, values in tables.items():
            if not np.isfinite(values.numpy()).all():
                raise UserError(
                    f"{source}: {name} has NaN or infinite values; see `simscale validate`."
                )


def _as_table(values: Array, shape: torch.Size, key: str, source: Path) -> Array:
    if values.size != math.prod(shape):
        raise UserError(
            f"{source}: {key!r} has steps of {math.prod(values.shape[1:])} numbers, and of {shape[1]} in the"
            " first episode; validate the dataset."
        )
    return values.reshape(shape)


def empty_tables(layout: VectorLayout, steps: int) -> Tables:
    return {name: torch.empty(steps, width) for name, width in layout.widths.items()}
