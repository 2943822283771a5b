"""Actions from outside, checked against the space that the environment at hand declares."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from simscaleai.errors import UserError


class ActionCheck:
    """Turns actions of `space`, or of n environments of it, into arrays within its bounds.

    Raises:
      UserError: the space is not a Box.
    """

    def __init__(self, space: spaces.Space[Any], n: int | None = None) -> None:
        if not isinstance(space, spaces.Box):
            raise UserError(
                f"The action space is {space}, and an environment here takes a Box; make it one of whole"
                " numbers, such as Box(0, 4, (1,), int), and let _apply_action say what each means."
            )
        self.space = space
        self.shape = space.shape if n is None else (n, *space.shape)
        self.dtype = np.dtype(np.float64 if space.dtype.kind == "f" else space.dtype)
        self._whole = self.dtype.kind != "f"
        # one bound for all entries is the usual case, and cheaper to clip to
        self._low, self._high = (_shared(bound) for bound in (space.low, space.high))

    def __call__(self, action: Any) -> NDArray[Any]:
        """A copy of `action` in the space: float64, clipped to the bounds; integers where the space has them.

        Raises:
          UserError: it is not an array of numbers of the space's shape, or has entries that are not finite.
        """
        try:
            checked = np.array(action, dtype=np.float64)
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


def _shared(bound: NDArray[Any]) -> Any:
    """The one number that all entries of `bound` are, or all of them."""
    numbers = bound.astype(np.float64)
    same = numbers.size and (numbers == numbers.flat[0]).all()
    return float(numbers.flat[0]) if same else numbers
