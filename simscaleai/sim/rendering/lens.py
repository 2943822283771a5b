"""How a camera takes its picture: the part of it that is the same in every simulation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray


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


def blank(lens: Lens, n: int, depth: bool, segmentation: bool) -> dict[str, NDArray[Any]]:
    """Arrays for the pictures of n simulations through `lens`: `rendering.Pictures` to be filled."""
    shape = (n, lens.height, lens.width)
    pictures: dict[str, NDArray[Any]] = {"rgb": np.empty((*shape, 3), np.uint8)}
    if depth:
        pictures["depth"] = np.empty(shape, np.float32)
    if segmentation:
        pictures["segmentation"] = np.empty(shape, np.int32)
    return pictures
