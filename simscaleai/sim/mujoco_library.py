"""Settings of MuJoCo's C library that its Python package does not offer.

`simscaleai.sim` makes them when it is imported.
"""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path

import mujoco

logger = logging.getLogger(__name__)

# how MuJoCo's warnings of NaN and huge numbers begin, see `physics.INSTABILITIES`
_UNSTABLE = "Nan, Inf or huge value in"


class LogConfig(ctypes.Structure):
    """Struct `mjLogConfig` of mjtype.h."""

    # the order and the types of the header: the struct is passed by value
    _fields_ = [
        ("logto_console", ctypes.c_bool),
        ("logto_file", ctypes.c_bool),
        ("logfile", ctypes.c_char * 1024),
        ("topics", ctypes.c_int),
    ]


def stop_profiler() -> None:
    """Remove the clock of MuJoCo's profiler, which cost a tenth of a step; `MjData.timer` stays at 0."""
    # the Python package installs a clock, and replaces it only by a Python function, which is slower still
    for library in _libraries():
        ctypes.c_void_p.in_dll(library, "mjcb_time").value = None


def stop_log_file() -> None:
    """Write no MUJOCO_LOG.TXT into the working folder."""
    for library in _libraries():
        library.mju_getLogConfig.restype = LogConfig
        library.mju_setLogConfig.argtypes = [LogConfig]
        config = library.mju_getLogConfig()  # keep the other settings
        config.logto_file = False
        library.mju_setLogConfig(config)


def log_warnings() -> None:
    """Send MuJoCo's warnings to the logger of this module, unless the program has a handler of its own."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(log_warning)


def log_warning(text: str) -> None:
    """Log a warning of MuJoCo.

    Those of unstable physics are dropped: each env would print a line, and `info["diverged"]` reports it.
    """
    if not text.startswith(_UNSTABLE):
        logger.warning("MuJoCo: %s", text)


@cache
def _libraries() -> list[ctypes.CDLL]:
    """Return the shared library that the Python package uses."""
    # loading a library that is loaded already returns a handle of the same one
    folder = Path(mujoco.__file__).parent
    patterns = ("libmujoco*.so*", "libmujoco*.dylib", "mujoco.dll")
    return [ctypes.CDLL(str(path)) for pattern in patterns for path in folder.glob(pattern)]
