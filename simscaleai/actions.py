"""Range of actions: a box with finite bounds, and the scaling between it and [-1, 1], where agents work.

actions = ActionRange.of(env.action_space)      # UserError unless it is a finite box of real numbers
actions.executed(units)                         # (n, d) in [-1, 1] -> (n, *shape) in the box
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array, FloatArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict

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
        """Return the range [-1, 1] in each of `width` entries."""
        return cls(-np.ones(width), np.ones(width), (width,))

    @classmethod
    def of(cls, space: object) -> ActionRange:
        """Return the range of a Gymnasium action space.

        Raises:
          UserError: the space is no box of real numbers, or has an entry without finite bounds.
        """
        # By its bounds and not by its class: spaces of the older `gym` package are boxes too.
        low, high = getattr(space, "low", None), getattr(space, "high", None)
        if not isinstance(low, np.ndarray) or not isinstance(high, np.ndarray):
            raise UserError(
                f"The action space is a {type(space).__name__}, and agents act in a Box of real numbers with"
                " finite bounds; wrap the environment so that it takes one (gymnasium.ActionWrapper)."
            )
        shape, dtype = low.shape, low.dtype
        if dtype.kind != "f":
            raise UserError(
                f"The action space is a Box of {dtype}, and agents act in one of real numbers; wrap the"
                " environment so that it takes one (gymnasium.ActionWrapper)."
            )
        # In float64, so that the middle and the width of a float32 box are exact.
        low, high = (bound.astype(np.float64).reshape(-1) for bound in (low, high))  # (d,) each
        # The width itself may overflow: a box of +-1e308 has finite bounds and an infinite width.
        endless = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high) & np.isfinite(high - low)))
        if len(endless):
            i = int(endless[0])
            raise UserError(
                f"Entry {i} of the action space has the bounds {low[i]:g} and {high[i]:g}, and agents need"
                " finite ones to know how far to explore; give some (gymnasium.wrappers.RescaleAction)."
            )
        return cls(low, high, tuple(shape), str(dtype))

    @classmethod
    def recorded(cls, low: Array, high: Array, contract: EnvContract | None) -> ActionRange | None:
        """Return the range of recorded actions; None if they are in [-1, 1].

        Args:
          low, high: (d,) smallest and largest recorded value of each entry.
          contract: of the environment that executed them; every environment with a contract takes actions in
            [-1, 1]. None where it is not known.

        Raises:
          UserError: the environment cannot have executed the actions as they were recorded.
        """
        low, high = (np.asarray(bound, np.float64) for bound in (low, high))
        if low.min() >= -1 - SLACK and high.max() <= 1 + SLACK:
            return None
        if contract is not None:
            # It clipped them: a policy that learns the unclipped ones learns what did not happen.
            raise UserError(
                f"actions leave [-1, 1], which is what {contract.env_name!r} takes: they reach from"
                f" {low.min():g} to {high.max():g}, and were not executed as they were recorded"
            )
        # At least [-1, 1], so that a few demonstrations with small actions do not narrow the policy.
        return cls(np.minimum(low, -1), np.maximum(high, 1), low.shape)

    @property
    def width(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def executed(self, units: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return actions (..., *shape) in the box for `units` (..., d), clipped to [-1, 1] first."""
        actions = (self._middle + self._half * units.clip(-1.0, 1.0)).astype(self.dtype)  # (..., d)
        # Rounding to float32 may leave the box by one bit, which Gymnasium's checkers refuse.
        return actions.clip(*self._own_bounds).reshape((*units.shape[:-1], *self.shape))

    def units(self, actions: NDArray[np.floating]) -> NDArray[np.float32]:
        """Invert `executed`: actions (..., d) -> (..., d) in [-1, 1]; 0 where the box is flat."""
        scaled = (actions - self._middle) / np.where(self._half > 0, self._half, 1.0)
        return scaled.astype(np.float32)

    def bounds(self, dtype: str = "float32") -> tuple[Array, Array]:
        """Return `low` and `high` in a dtype, rounded into the box."""
        infinity = np.array(np.inf, dtype)
        low, high = self.low.astype(dtype), self.high.astype(dtype)
        # Rounding to the nearest number may have left the box: take the next one inside.
        low = np.where(low < self.low, np.nextafter(low, infinity), low)
        high = np.where(high > self.high, np.nextafter(high, -infinity), high)
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

    def to_dict(self) -> JsonDict:
        """Return the JSON values that `from_dict` reads."""
        return {
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "shape": list(self.shape),
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, saved: JsonDict) -> ActionRange:
        """Return the inverse of `to_dict`.

        Raises:
          ValueError: the values describe no box of numbers.
        """
        # The values may come from a file of somebody else.
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
