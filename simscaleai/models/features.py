"""Positions as a hand sees them: what a state-reading model is shown in place of positions in the room.

How to grasp a cube does not depend on where on the table it lies. A network that reads positions in the
room must find that out from demonstrations; one that reads offsets from the hand need not, and gets by with
far fewer.

Every entry `<name>_pos` of three numbers besides the hand's own is taken for a position in the room. The
state becomes, in this order:

    heights      z of the hand and of every position, m: the table is where it is
    offsets      from the hand to every position and from every position to each later one, m
    tanh         of the offsets over each of `SCALES`: millimetres near contact, where an offset over its
                 spread in the data is almost zero
    the rest     every other vector, unchanged

Trap: what is not a position (angles of joints, orientations) still says where in the room the hand is.
With few demonstrations leave it out by `state_keys`.
"""

from __future__ import annotations

from itertools import combinations

import torch

from simscaleai.errors import UserError
from simscaleai.observations import ObsSpec, unflatten_state

HAND = "ee_pos"
SCALES = (0.01, 0.05)  # m: where fingers meet a cube, and what an action can move the hand by


class RelativePositions:
    """The change from states to features; it has no parameters.

    Args:
      spec: of the raw observations.

    Attributes:
      width: of the features.

    Raises:
      UserError: the observations lack the hand's position, or any other.
    """

    def __init__(self, spec: ObsSpec) -> None:
        self.spec = spec
        self.places = [
            key
            for key in spec.state_keys
            if key.endswith("_pos") and key != HAND and spec.shapes[key] == (3,)
        ]
        if HAND not in spec.shapes or not self.places:
            raise UserError(
                f"relative_positions needs {HAND!r} and a position such as 'target_pos' beside it; the state"
                f" has {', '.join(spec.state_keys) or 'nothing'}."
            )
        self.rest = [k for k in spec.state_keys if k not in (HAND, *self.places)]
        self.width = self(torch.zeros(spec.state_dim)).shape[-1]

    def __call__(self, state: torch.Tensor) -> torch.Tensor:
        """(..., spec.state_dim) -> (..., width), row by row."""
        parts = unflatten_state(state, self.spec)
        points = [parts[key] for key in (HAND, *self.places)]
        heights = [point[..., 2:] for point in points]
        offsets = torch.cat([b - a for a, b in combinations(points, 2)], dim=-1)
        near = [torch.tanh(offsets / scale) for scale in SCALES]
        return torch.cat([*heights, offsets, *near, *(parts[k] for k in self.rest)], dim=-1)


def state_width(spec: ObsSpec, wanted: bool) -> int:
    """How wide a state is as the model is shown it."""
    features = relative(spec, wanted)
    return spec.state_dim if features is None else features.width


def relative(spec: ObsSpec | None, wanted: bool) -> RelativePositions | None:
    """The change, where it is wanted; None for states as they are."""
    if not wanted:
        return None
    if spec is None:
        raise UserError("relative_positions needs to know what the state is made of.")
    return RelativePositions(spec)
