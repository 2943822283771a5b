"""MuJoCo's native viewer: a window on a machine with a display."""

from __future__ import annotations

import importlib.util
import sys
import threading
import warnings

from simscaleai.errors import MissingPackageError, UserError
from simscaleai.rendering.viewer_window import NO_WINDOWS
from simscaleai.tools.live.player import Player, play

CLOSE = 5.0  # s; longest time to wait for the window to close


def show_in_window(player: Player, title: str) -> None:
    """Open a window and return when the user closes it.

    Raises:
      UserError: there is no display, or (on macOS) this Python cannot open windows.
    """
    require_display()
    import mujoco.viewer

    others = set(threading.enumerate())
    try:
        window = mujoco.viewer.launch_passive(
            player.model, player.data, show_left_ui=False, show_right_ui=False
        )
    except RuntimeError as error:  # macOS, not under mjpython
        raise UserError(f"{error}; run it so, or give --web.") from None

    with window.lock():
        mujoco.mjv_defaultFreeCamera(player.model, window.cam)

    def draw() -> bool:
        window.set_texts((None, None, title, player.status))
        window.sync()
        return window.is_running()

    try:
        play(player, draw)
    finally:
        window.close()
        # Its own threads close it; they must end before the program does.
        for thread in set(threading.enumerate()) - others:
            thread.join(CLOSE)


def require_display() -> None:
    """Raise UserError unless a window can be opened.

    It must be checked beforehand because a failure in the viewer's thread ends the whole process.
    """
    if importlib.util.find_spec("glfw") is None:
        raise MissingPackageError(f"{NO_WINDOWS}, or give --web to watch in a browser.")
    if sys.platform == "darwin":
        return
    try:
        import glfw
    except ImportError:  # its C library cannot be loaded
        works = False
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            works = bool(glfw.init())
            if works:
                glfw.window_hint(glfw.VISIBLE, glfw.FALSE)
                works = bool(glfw.create_window(1, 1, "", None, None))  # there may be no OpenGL
            glfw.terminate()
    if not works:
        raise UserError(
            "There is no display to open a window on; give --web to watch in a browser, also from"
            " another machine."
        )
