"""Settings of an environment, merged from its class, a file or object, and keywords."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simscaleai.config import change_config, load_config
from simscaleai.errors import UserError
from simscaleai.sim.base_env import BaseRobotEnv, CameraConfig, SimConfig
from simscaleai.sim.task_env import TaskEnv


def sim_config(config: SimConfig | str | Path | None = None, **values: Any) -> SimConfig:
    """Return a checked `SimConfig` from a `SimConfig` or a YAML file, and field values that override it."""
    _check_cameras(values)
    if isinstance(config, SimConfig):
        return change_config(config, **values)
    return load_config(SimConfig, config, **values)


def class_config(
    cls: type, config: SimConfig | str | Path | None = None, **values: Any
) -> SimConfig | None:
    """Return the settings to call an environment class with; None if the class shall use its own.

    A class that can be called without settings has its own. A YAML file and keywords change single fields of
    them; a `SimConfig` replaces them, but takes their scene if it has none.
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


def _check_cameras(values: Mapping[str, object]) -> None:
    """Raise UserError if `cameras` is not a list of settings; a name alone has no image size."""
    cameras = values.get("cameras", [])
    if (
        not isinstance(cameras, Sequence)
        or isinstance(cameras, str)
        or not all(isinstance(camera, CameraConfig | Mapping) for camera in cameras)
    ):
        raise UserError(
            f"cameras is {cameras!r}; give a list of CameraConfig, such as"
            " [CameraConfig('front_cam', width=64, height=64)], or [] for no images."
        )


def _has_own(cls: type) -> bool:
    """Return whether `config` may be left out in the class's own `__init__`."""
    init: Callable[..., None] = cls.__init__  # type: ignore[misc]
    # an inherited __init__ with a default is ours and says nothing about the class
    if init in (TaskEnv.__init__, BaseRobotEnv.__init__):
        return False
    config = inspect.signature(init).parameters.get("config")
    return config is not None and config.default is not config.empty


def _own(cls: type) -> SimConfig:
    """Return the settings that a class uses by itself, from an environment made for this purpose."""
    try:
        env = cls()
    except UserError:  # it needs settings of the caller, such as the path of its scene
        return SimConfig()
    env.close()
    own = getattr(env, "config", None)
    return own if isinstance(own, SimConfig) else SimConfig()
