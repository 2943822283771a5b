"""Versions of libraries, devices, and render engines that work on this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from simscaleai import plugins
from simscaleai.tracking import run_info

GL_BACKENDS = ("egl", "osmesa", "glfw")
PROBE_SECONDS = 20
COMPILE_SECONDS = 120  # the warp engine compiles its kernels for the first image on a machine

# Runs in a process of its own, since a broken GL library can abort its process.
_DRAW = """
from simscaleai.sim import CameraConfig, make_env
camera = CameraConfig("front_cam", 16, 16)
env = make_env("reach", "rgb_array", cameras=[camera], render_engine={engine!r})
env.reset(seed=0)
assert env.render().std() > 0
"""


def versions() -> dict[str, str]:
    """Return {library: version}, including the HDF5 library inside h5py and a warning if it is unsafe."""
    import h5py

    from simscaleai.storage.hdf5 import library_problem

    found = h5py.version.hdf5_version
    problem = library_problem(h5py.version.hdf5_version_tuple)
    return run_info.versions() | {"HDF5": f"{found}: {problem}" if problem else found}


def devices() -> dict[str, str]:
    """Return {device: description}; imports torch."""
    import torch

    # the cores that this process may use, which a container may limit
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"cpu": f"{cores} cores, {torch.get_num_threads()} threads in PyTorch"}
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found["cuda"] = ", ".join(names) or "no"
    found["mps"] = "yes" if torch.backends.mps.is_available() else "no"
    return found


def render_engines() -> dict[str, str]:
    """Return {engine: "works" or the reason why not}; takes seconds, as every engine renders an image."""
    draw = _DRAW.format(engine="gl")
    found = {f"gl ({backend})": _runs(draw, MUJOCO_GL=backend) for backend in GL_BACKENDS}
    if importlib.util.find_spec("mujoco_warp") is None:
        return found | {"warp": "not installed: pip install 'simscaleai[render]'"}
    return found | {"warp": _runs(_DRAW.format(engine="warp"), COMPILE_SECONDS)}


def assets() -> Path:
    """Return the folder of the bundled scenes."""
    import simscaleai

    return Path(simscaleai.__file__).parent / "sim" / "assets"


def _runs(code: str, seconds: float = PROBE_SECONDS, **variables: str) -> str:
    """Run Python code in a process with environment variables; return "works" or the reason why not."""
    # This variable of PyOpenGL overrides the requested backend. Plugins are not loaded, because a broken
    # one would look like a broken engine.
    dropped = ("PYOPENGL_PLATFORM", plugins.VARIABLE)
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\nprint('it runs')"],
            env=env | variables,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"no: nothing after {seconds} s"
    if "it runs" in done.stdout:
        return "works"
    lines = done.stderr.strip().splitlines()  # the last one names the exception
    return f"no: {lines[-1]}" if lines else f"no: exit code {done.returncode}"
