"""Interactive window of `render_mode="human"`."""

from __future__ import annotations

import os
import sys
from typing import Protocol

import mujoco

from simscaleai.errors import MissingPackageError, UserError

NO_WINDOWS = (
    "MuJoCo's viewer window needs a package that is not installed: pip install 'simscaleai[gl]'"
)


class Window(Protocol):
    """Window that shows a simulation; MuJoCo's passive viewer is one."""

    def sync(self) -> None:
        """Show the simulation as it is now."""

    def close(self) -> None:
        """Close the window."""


def open_window(model: mujoco.MjModel, data: mujoco.MjData) -> Window:
    """Open a window that shows `data` at each `sync()`; UserError where there is no display."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise UserError(
            "render_mode='human' needs a display and there is none; use render_mode='rgb_array'."
        )
    try:
        import mujoco.viewer
    except ImportError as error:  # glfw
        raise MissingPackageError(f"{NO_WINDOWS}.") from error

    window: Window = mujoco.viewer.launch_passive(model, data)
    return window
