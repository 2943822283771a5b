"""Check actions of callers against the space that the environment declares."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from simscaleai.array_types import Array, FloatArray
from simscaleai.errors import UserError
from simscaleai.sim.env_types import Space


class ActionCheck:
    """Turns actions of `space`, or of n environments with this space, into arrays within its bounds.

    Args:
      space: a Box of floats or integers.
      n: number of environments; None for a single one, whose actions have no leading axis.

    Raises:
      UserError: the space is not a Box.
    """

    def __init__(self, space: Space, n: int | None = None) -> None:
        if not isinstance(space, spaces.Box):
            raise UserError(
                f"The action space is {space}, and an environment here takes a Box; make it one of whole"
                " numbers, such as Box(0, 4, (1,), int), and let _apply_action say what each means."
            )
        self.space = space
        self.shape = space.shape if n is None else (n, *space.shape)
        self.dtype = np.dtype(np.float64 if space.dtype.kind == "f" else space.dtype)
        self._whole = self.dtype.kind != "f"  # whether the space has integers
        # one bound for all entries is the usual case, and cheaper to clip to
        self._low, self._high = (_shared(bound) for bound in (space.low, space.high))

    def __call__(self, action: object) -> Array:
        """Return a copy of `action` in the space, clipped to its bounds: float64, or the space's integers.

        Raises:
          UserError: it is not an array of numbers of the space's shape, or has entries that are not finite.
        """
        try:
            checked = np.array(
                action, dtype=np.float64
            )  # a copy: the caller's array stays as it is
        except (TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"The action is a {type(action).__name__} that is no array of numbers ({reason}); this"
                f" environment takes {self.shape}."
            ) from None
        if checked.shape != self.shape:
            raise UserError(
                f"The action has shape {checked.shape}; this environment takes {self.shape}."
            )
        # max and min propagate NaN and are cheaper than a mask
        if checked.size and not (np.isfinite(checked.max()) and np.isfinite(checked.min())):
            raise UserError(
                f"The action has NaN or infinite entries; every entry must be finite, of {self.space}."
            )
        checked = checked.clip(self._low, self._high)
        if not self._whole:
            return checked
        if (checked != np.round(checked)).any():
            raise UserError(
                f"The action has fractions; every entry must be a whole number, of {self.space}."
            )
        return checked.astype(self.dtype)


def _shared(bound: Array) -> float | FloatArray:
    """Return the number that all entries of `bound` are, or `bound` where they differ."""
    numbers = bound.astype(np.float64)
    same = numbers.size and (numbers == numbers.flat[0]).all()
    return float(numbers.flat[0]) if same else numbers
