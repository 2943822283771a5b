"""How a camera takes its picture: the part of it that is the same in every simulation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco


@dataclass(frozen=True)
class Lens:
    """Camera `camera_id` of a model; `width` and `height` in pixels, `fov` vertical, degrees."""

    name: str
    camera_id: int
    width: int
    height: int
    fov: float


def model_with(model: mujoco.MjModel, lenses: Sequence[Lens]) -> mujoco.MjModel:
    """A copy of `model` whose cameras have the lenses' fields of view."""
    model = copy.copy(model)
    for lens in lenses:
        model.cam_fovy[lens.camera_id] = lens.fov
        model.cam_sensorsize[lens.camera_id] = 0  # or MuJoCo would take the field of view from it
    return model
