"""The range of actions: the box that they are in, and how an agent that works in [-1, 1] acts there.

actions = ActionRange.of(env.action_space)      # UserError unless it is a finite box of real numbers
actions.executed(units)                         # (n, d) in [-1, 1] -> (n, *shape) in the box
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array, FloatArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError

SLACK = 1e-6
"""How far rounding may take an action beyond its bounds."""


@dataclass(frozen=True, eq=False)
class ActionRange:
    """A box with finite bounds.

    Attributes:
      low, high: (d,) float64, the bounds of each entry.
      shape: of one action; its entries are the d above.
      dtype: name of the NumPy dtype that is executed.
    """

    low: FloatArray
    high: FloatArray
    shape: tuple[int, ...]
    dtype: str = "float32"

    @classmethod
    def unit(cls, width: int) -> ActionRange:
        """[-1, 1] in every entry."""
        return cls(-np.ones(width), np.ones(width), (width,))

    @classmethod
    def of(cls, space: Any) -> ActionRange:
        """Return the range of a Gymnasium action space.

        Raises:
          UserError: the space is no box of real numbers, or has an entry without finite bounds.
        """
        kind = type(space).__name__
        bounds: list[Any] = [getattr(space, name, None) for name in ("low", "high")]
        if not all(isinstance(bound, np.ndarray) for bound in bounds):
            raise UserError(
                f"The action space is a {kind}, and agents act in a Box of real numbers with finite bounds;"
                " wrap the environment so that it takes one (gymnasium.ActionWrapper)."
            )
        low, high = bounds
        if low.dtype.kind != "f":
            raise UserError(
                f"The action space is a Box of {low.dtype}, and agents act in one of real numbers; wrap the"
                " environment so that it takes one (gymnasium.ActionWrapper)."
            )
        low, high = (bound.astype(np.float64).reshape(-1) for bound in bounds)
        endless = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high) & np.isfinite(high - low)))
        if len(endless):
            i = int(endless[0])
            raise UserError(
                f"Entry {i} of the action space has the bounds {low[i]:g} and {high[i]:g}, and agents need"
                " finite ones to know how far to explore; give some (gymnasium.wrappers.RescaleAction)."
            )
        return cls(low, high, tuple(bounds[0].shape), str(bounds[0].dtype))

    @classmethod
    def recorded(cls, low: Array, high: Array, contract: EnvContract | None) -> ActionRange | None:
        """Return the range of recorded actions; None if they are in [-1, 1].

        Args:
          low, high: (d,) the smallest and the largest of each entry.
          contract: of the environment that took them, all of which take [-1, 1]; None where it is not known.

        Raises:
          UserError: the environment took others than those that were recorded.
        """
        low, high = (np.asarray(bound, np.float64) for bound in (low, high))
        if low.min() >= -1 - SLACK and high.max() <= 1 + SLACK:
            return None
        if contract is not None:
            raise UserError(
                f"actions leave [-1, 1], which is what {contract.env_name!r} takes: they reach from"
                f" {low.min():g} to {high.max():g}, and were not executed as they were recorded"
            )
        return cls(np.minimum(low, -1), np.maximum(high, 1), low.shape)

    @property
    def width(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def executed(self, units: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return actions (..., *shape) in the box for (..., d) in [-1, 1], which is clipped first."""
        actions = (self._middle + self._half * units.clip(-1.0, 1.0)).astype(self.dtype)
        return actions.clip(*self._own_bounds).reshape((*units.shape[:-1], *self.shape))

    def units(self, actions: NDArray[np.floating]) -> NDArray[np.float32]:
        """Invert `executed`: actions (..., d) -> (..., d) in [-1, 1]; 0 where the box is flat."""
        scaled = (actions - self._middle) / np.where(self._half > 0, self._half, 1.0)
        return scaled.astype(np.float32)

    def bounds(self, dtype: str = "float32") -> tuple[Array, Array]:
        """Return `low` and `high` in a dtype, rounded inwards."""
        kind: Any = np.dtype(dtype).type
        low, high = self.low.astype(kind), self.high.astype(kind)
        low = np.where(low < self.low, np.nextafter(low, kind(np.inf)), low)
        high = np.where(high > self.high, np.nextafter(high, kind(-np.inf)), high)
        return low, high

    @cached_property
    def _middle(self) -> FloatArray:
        return (self.high + self.low) / 2

    @cached_property
    def _half(self) -> FloatArray:
        return (self.high - self.low) / 2

    @cached_property
    def _own_bounds(self) -> tuple[Array, Array]:
        return self.bounds(self.dtype)

    def same_as(self, other: ActionRange) -> bool:
        """Return whether the same actions are allowed."""
        return (
            self.shape == other.shape
            and np.array_equal(self.low, other.low)
            and np.array_equal(self.high, other.high)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`."""
        return {
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "shape": list(self.shape),
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ActionRange:
        """Inverse of `to_dict`.

        Raises:
          ValueError: the values describe no box of numbers.
        """
        low, high = (np.asarray(saved[name], dtype=np.float64) for name in ("low", "high"))
        shape = tuple(int(n) for n in saved["shape"])
        dtype = np.dtype(saved["dtype"])
        sound = low.shape == high.shape == (math.prod(shape),) and dtype.kind == "f"
        if not sound or not np.isfinite([low, high]).all() or (low > high).any():
            raise ValueError("no box of numbers")
        return cls(low, high, shape, dtype.name)

    def __str__(self) -> str:
        if len(set(self.low)) == len(set(self.high)) == 1:
            return f"{self.width} numbers in [{self.low[0]:g}, {self.high[0]:g}]"
        pairs = zip(self.low, self.high, strict=True)
        return f"{self.width} numbers in " + ", ".join(f"[{a:g}, {b:g}]" for a, b in pairs)
