"""Settings of MuJoCo's C library that its Python package does not offer; `simscaleai.sim` makes them."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import mujoco


class LogConfig(ctypes.Structure):
    """`mjLogConfig` of mjtype.h."""

    _fields_ = [
        ("logto_console", ctypes.c_bool),
        ("logto_file", ctypes.c_bool),
        ("logfile", ctypes.c_char * 1024),
        ("topics", ctypes.c_int),
    ]


def stop_profiler() -> None:
    """Leave MuJoCo's profiler without a clock: reading one took a tenth of a step.

    The Python package installs one, and takes no other but a Python function; `MjData.timer` stays at 0.
    """
    for library in _libraries():
        ctypes.c_void_p.in_dll(library, "mjcb_time").value = None


def stop_log_file() -> None:
    """Leave no MUJOCO_LOG.TXT in the working folder; warnings still go to stderr."""
    for library in _libraries():
        library.mju_getLogConfig.restype = LogConfig
        library.mju_setLogConfig.argtypes = [LogConfig]
        config = library.mju_getLogConfig()
        config.logto_file = False
        library.mju_setLogConfig(config)


@cache
def _libraries() -> list[ctypes.CDLL]:
    """The shared library that the Python package runs on."""
    folder = Path(mujoco.__file__).parent
    patterns = ("libmujoco*.so*", "libmujoco*.dylib", "mujoco.dll")
    return [ctypes.CDLL(str(path)) for pattern in patterns for path in folder.glob(pattern)]
