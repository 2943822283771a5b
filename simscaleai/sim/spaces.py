"""The spaces and the contract of a task's environments, single and vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.memory import require_memory
from simscaleai.sim.physics import Sim
from simscaleai.sim.task import Task

T = TypeVar("T")

LIMIT = 1e3
"""Bound of every number of an observation (m, rad, rad/s): far beyond what happens, and finite, since
checkers take an infinite bound for a mistake."""


FAR = 1e3
"""Bound of a depth, m."""

_PIXEL_BYTES = 12  # the picture, and the bounds of its space


def observation_space(task: Task, sim: Sim, config: Any) -> spaces.Dict:
    """The space of one environment's observation: the task's keys, and those of its cameras.

    Raises:
      UserError: a camera is configured twice.
    """
    parts: dict[str, spaces.Space[Any]] = {
        key: spaces.Box(-LIMIT, LIMIT, value.shape[1:], np.float32)
        for key, value in task.observe(sim).items()
    }
    seen: dict[str, dict[str, spaces.Space[Any]]] = {}
    for camera in config.cameras:
        if camera.name in seen:
            raise UserError(f"The camera {camera.name!r} is configured twice; name each one once.")
        shape = (camera.height, camera.width)
        require_memory(
            sim.n * _PIXEL_BYTES * camera.height * camera.width,
            f"A picture of {camera.width} x {camera.height} pixels"
            + (f" in each of {sim.n} environments" if sim.n > 1 else ""),
            "choose a smaller image_size" + (" or num_envs" if sim.n > 1 else ""),
        )
        seen[camera.name] = {"rgb": spaces.Box(0, 255, (*shape, 3), np.uint8)}
        if config.observe_depth:
            seen[camera.name]["depth"] = spaces.Box(0, FAR, shape, np.float32)
        if config.observe_segmentation:
            last = sim.model.ngeom - 1
            seen[camera.name]["segmentation"] = spaces.Box(-1, last, shape, np.int32)
    return spaces.Dict(parts | camera_observations(seen))


def camera_observations(seen: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Observation keys for what cameras see, {camera: {"rgb", "depth", "segmentation"}}.

    The first camera's picture is `image`. Where there are several, each one's is `images/<camera>` too.
    Depth and segmentation are `depth/<camera>` and `segmentation/<camera>` always.
    """
    obs = {}
    for camera, pictures in seen.items():
        for kind, picture in pictures.items():
            if kind != "rgb":
                obs[f"{kind}/{camera}"] = picture
                continue
            obs.setdefault("image", picture)
            if len(seen) > 1:
                obs[f"images/{camera}"] = picture
    return obs


def action_space(task: Task) -> spaces.Box:
    """The space of one environment's action."""
    return spaces.Box(-1.0, 1.0, (task.controller.action_dim,), np.float32)


def env_contract(task: Task, config: Any, space: spaces.Dict) -> EnvContract:
    """What a policy relies on, for an environment made from `config` (a `SimConfig`)."""
    settings = asdict(config)
    del settings["seed"], settings["render_engine"]  # which episodes, and how they are drawn
    return EnvContract(
        env_name=task.name,
        env_config=settings,
        obs_shapes={key: tuple(box.shape or ()) for key, box in sorted(space.items())},
        obs_dtypes={key: str(box.dtype) for key, box in sorted(space.items())},
        action_dim=task.controller.action_dim,
        control_dt=config.control_dt,
        action_names=task.controller.action_names,
        action_units=task.controller.action_units,
        instructions=task.phrasings(),
    )
