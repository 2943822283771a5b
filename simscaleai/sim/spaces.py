"""The spaces and the contract of a task's environments, single and vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from gymnasium import spaces

from simscaleai.contract import EnvContract
from simscaleai.sim.physics import Sim
from simscaleai.sim.task import Task

LIMIT = 1e3
"""Bound of every number of an observation (m, rad, rad/s): far beyond what happens, and finite, since
checkers take an infinite bound for a mistake."""


def observation_space(task: Task, sim: Sim, cameras: Sequence[Any] = ()) -> spaces.Dict:
    """The space of one environment's observation: the task's keys, and `image` if there are cameras."""
    parts: dict[str, spaces.Space[Any]] = {
        key: spaces.Box(-LIMIT, LIMIT, value.shape[1:], np.float32)
        for key, value in task.observe(sim).items()
    }
    if cameras:
        shape = (cameras[0].height, cameras[0].width, 3)
        parts["image"] = spaces.Box(0, 255, shape, np.uint8)
    return spaces.Dict(parts)


def action_space(task: Task) -> spaces.Box:
    """The space of one environment's action."""
    return spaces.Box(-1.0, 1.0, (task.controller.action_dim,), np.float32)


def env_contract(name: str, config: Any, space: spaces.Dict) -> EnvContract:
    """What a policy relies on, for an environment made from `config` (a `SimConfig`)."""
    settings = asdict(config)
    del settings["seed"]  # which episodes, not which environment
    return EnvContract(
        env_name=name,
        env_config=settings,
        obs_shapes={key: tuple(box.shape or ()) for key, box in sorted(space.items())},
        obs_dtypes={key: str(box.dtype) for key, box in sorted(space.items())},
        action_dim=4,
        control_dt=config.control_dt,
    )
