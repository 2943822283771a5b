"""Spaces and contract of a task's environments, single and vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TypeVar

import numpy as np
from gymnasium import spaces

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.memory import require_memory
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.env_types import Space
from simscaleai.sim.physics import Sim
from simscaleai.sim.task import Task

T = TypeVar("T")

LIMIT = 1e3
"""Bound of every number of an observation (m, rad, rad/s): far beyond what occurs, but finite, since
environment checkers report infinite bounds as mistakes."""

FAR = 1e3
"""Bound of a depth, m."""

_PIXEL_BYTES = 12  # of the image and of the two bounds of its space


def observation_space(task: Task, sim: Sim, config: SimConfig) -> spaces.Dict:
    """Return the space of one environment's observation: the keys of the task and of its cameras.

    Raises:
      UserError: a camera is configured twice.
    """
    parts: dict[str, Space] = {
        key: spaces.Box(-LIMIT, LIMIT, value.shape[1:], np.float32)
        for key, value in task.observe(sim).items()  # (n, d) each
    }
    images: dict[str, dict[str, Space]] = {}
    for camera in config.cameras:
        if camera.name in images:
            raise UserError(f"The camera {camera.name!r} is configured twice; name each one once.")
        shape = (camera.height, camera.width)
        require_memory(
            sim.n * _PIXEL_BYTES * camera.height * camera.width,
            f"An image of {camera.width} x {camera.height} pixels"
            + (f" in each of {sim.n} environments" if sim.n > 1 else ""),
            "choose a smaller image_size" + (" or num_envs" if sim.n > 1 else ""),
        )
        images[camera.name] = {"rgb": spaces.Box(0, 255, (*shape, 3), np.uint8)}
        if config.observe_depth:
            images[camera.name]["depth"] = spaces.Box(0, FAR, shape, np.float32)
        if config.observe_segmentation:
            last = sim.model.ngeom - 1  # ids of geoms; -1 is the background
            images[camera.name]["segmentation"] = spaces.Box(-1, last, shape, np.int32)
    return spaces.Dict(parts | camera_observations(images))


def camera_observations(images: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Return observations by key from images (or their spaces) by camera.

    The image of the first camera is `image`. If there are several cameras, each image is also
    `images/<camera>`. Depth and segmentation are always `depth/<camera>` and `segmentation/<camera>`.

    Args:
      images: {camera: {"rgb": ..., "depth": ..., "segmentation": ...}}.
    """
    obs = {}
    for camera, kinds in images.items():
        for kind, image in kinds.items():
            if kind != "rgb":
                obs[f"{kind}/{camera}"] = image
                continue
            obs.setdefault("image", image)  # the same array under both keys, not a copy
            if len(images) > 1:
                obs[f"images/{camera}"] = image
    return obs


def action_space(task: Task) -> spaces.Box:
    """Return the space of one environment's action."""
    return spaces.Box(-1.0, 1.0, (task.controller.action_dim,), np.float32)


def bare_contract(name: str, config: SimConfig, space: spaces.Dict, action_dim: int) -> EnvContract:
    """Return what a policy relies on in any environment made from `config`."""
    settings = asdict(config)
    del settings["seed"], settings["render_engine"]  # a policy depends on neither
    # most datasets have none, and stay as those of earlier versions
    if not settings["camera_poses"]:
        del settings["camera_poses"]
    return EnvContract(
        env_name=name,
        env_config=settings,
        obs_shapes={key: tuple(box.shape or ()) for key, box in sorted(space.items())},
        obs_dtypes={key: str(box.dtype) for key, box in sorted(space.items())},
        action_dim=action_dim,
        control_dt=config.control_dt,
    )


def env_contract(task: Task, config: SimConfig, space: spaces.Dict) -> EnvContract:
    """Return what a policy relies on, for an environment made from `config`."""
    return replace(
        bare_contract(task.name, config, space, task.controller.action_dim),
        action_names=task.controller.action_names,
        action_units=task.controller.action_units,
        instructions=task.phrasings(),
    )
