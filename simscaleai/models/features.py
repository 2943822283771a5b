"""Relative positions: features of the state in which positions are offsets from the gripper.

How to grasp a cube does not depend on where on the table it lies. A network that reads world positions has to
learn that from demonstrations; one that reads offsets from the gripper does not, and needs far fewer of them.

Every entry `<name>_pos` of three numbers, apart from the gripper's own, counts as a position in the world
frame. The features are, in this order:

    heights      z of the gripper and of every position, m; kept, since the height of the table is fixed
    offsets      from the gripper to every position, and from every position to each later one, m
    tanh         tanh(offset / scale) for each of `SCALES`: it resolves millimeters near contact, where the
                 offset itself, divided by its standard deviation in the data, is almost zero
    the rest     every other vector, unchanged

Trap: other entries (joint angles, orientations) still determine where the gripper is in the world. With few
demonstrations, leave them out by `state_keys`.
"""

from __future__ import annotations

from itertools import combinations

import torch

from simscaleai.errors import UserError
from simscaleai.observations import ObsSpec, unflatten_state

HAND = "ee_pos"
SCALES = (0.01, 0.05)  # m: the size of contact geometry, and the largest displacement of one action


class RelativePositions:
    """Function from states to features; it has no parameters.

    Args:
      spec: spec of the raw observations.

    Attributes:
      width: number of features.

    Raises:
      UserError: the observations lack the gripper's position, or any other position.
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
        self.width = self(torch.zeros(spec.state_dim)).shape[-1]  # by trying it on one state

    def __call__(self, state: torch.Tensor) -> torch.Tensor:
        """Return features (..., width) for states (..., spec.state_dim)."""
        parts = unflatten_state(state, self.spec)
        points = [
            parts[key] for key in (HAND, *self.places)
        ]  # P positions (..., 3), the gripper first
        heights = [point[..., 2:] for point in points]  # (..., 1) each
        offsets = torch.cat(
            [b - a for a, b in combinations(points, 2)], dim=-1
        )  # (..., 3 P (P - 1) / 2)
        near = [torch.tanh(offsets / scale) for scale in SCALES]
        return torch.cat([*heights, offsets, *near, *(parts[k] for k in self.rest)], dim=-1)


def state_width(spec: ObsSpec, wanted: bool) -> int:
    """Return the width of the state as the model reads it."""
    features = relative(spec, wanted)
    return spec.state_dim if features is None else features.width


def relative(spec: ObsSpec | None, wanted: bool) -> RelativePositions | None:
    """Return the features if they are wanted, else None; UserError without a spec."""
    if not wanted:
        return None
    if spec is None:
        raise UserError("relative_positions needs to know what the state is made of.")
    return RelativePositions(spec)
