"""The settings that an environment is made with: its class's, those of a file or an object, keywords."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simscaleai.config import change_config, load_config
from simscaleai.errors import UserError
from simscaleai.sim.base_env import BaseRobotEnv, CameraConfig, SimConfig
from simscaleai.sim.task_env import TaskEnv


def sim_config(config: SimConfig | str | Path | None = None, **values: Any) -> SimConfig:
    """A checked `SimConfig` from a `SimConfig` or a YAML file, and field values that override it."""
    _check_cameras(values)
    if isinstance(config, SimConfig):
        return change_config(config, **values)
    return load_config(SimConfig, config, **values)


def class_config(
    cls: type, config: SimConfig | str | Path | None = None, **values: Any
) -> SimConfig | None:
    """The settings to call an environment class with; None for those that it makes by itself.

    A class that can be made without settings has its own. What a YAML file or a keyword says is changed in
    them, and a `SimConfig` without a scene gets theirs.
    """
    if not _has_own(cls):
        return sim_config(config, **values)
    if config is None and not values:
        return None
    own = _own(cls)
    if not isinstance(config, SimConfig):
        _check_cameras(values)
        return change_config(own, config, **values)
    given = sim_config(config, **values)
    return given if given.xml_path else replace(given, xml_path=own.xml_path)


def _check_cameras(values: Mapping[str, Any]) -> None:
    """Say what `cameras` takes: a name alone does not say how large its images are."""
    cameras = values.get("cameras", [])
    listed = isinstance(cameras, Sequence) and not isinstance(cameras, str)
    if not listed or not all(isinstance(camera, CameraConfig | Mapping) for camera in cameras):
        raise UserError(
            f"cameras is {cameras!r}; give a list of CameraConfig, such as"
            " [CameraConfig('front_cam', width=64, height=64)], or [] for no images."
        )


def _has_own(cls: type) -> bool:
    """Whether `config` may be left out in the class's own `__init__`."""
    init: Any = cls.__init__  # type: ignore[misc]
    if init in (TaskEnv.__init__, BaseRobotEnv.__init__):
        return False
    config = inspect.signature(init).parameters.get("config")
    return config is not None and config.default is not config.empty


def _own(cls: type) -> SimConfig:
    """What a class takes by itself: known once one was made."""
    try:
        env = cls()
    except UserError:  # it cannot do without what is given, such as the path of its scene
        return SimConfig()
    env.close()
    own = getattr(env, "config", None)
    return own if isinstance(own, SimConfig) else SimConfig()
