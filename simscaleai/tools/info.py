"""Versions of libraries, devices, and render engines that work on this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from simscaleai import plugins
from simscaleai.executors.executor import num_cpus
from simscaleai.tracking import run_info

GL_BACKENDS = ("egl", "osmesa", "glfw")
NO_DISPLAY = "no: there is no display or no OpenGL"
PROBE_SECONDS = 60  # of processes that run side by side, perhaps on a busy machine
COMPILE_SECONDS = 120  # the warp engine compiles its kernels for the first image on a machine

# Both run in a process of their own, since a broken GL library can abort its process. OpenGL is what
# `rendering.gl_engine` uses of MuJoCo, without the imports of the package: three backends are tried.
_DRAW_GL = """
import mujoco
scene = "<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>"
model = mujoco.MjModel.from_xml_string(scene)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    assert renderer.render().std() > 0, "the image is empty"
"""
_DRAW_WARP = """
from simscaleai.sim import CameraConfig, make_env
camera = CameraConfig("front_cam", 16, 16)
env = make_env("reach", "rgb_array", cameras=[camera], render_engine="warp")
env.reset(seed=0)
assert env.render().std() > 0
"""


def versions() -> dict[str, str]:
    """Return {library: version}, including the HDF5 library inside h5py and a warning if it is unsafe."""
    import h5py

    from simscaleai.storage.hdf5_library import library_problem

    found = h5py.version.hdf5_version
    problem = library_problem(h5py.version.hdf5_version_tuple)
    return run_info.versions() | {"HDF5": f"{found}: {problem}" if problem else found}


def devices() -> dict[str, str]:
    """Return {device: description}; imports torch, which takes seconds, only where it may find a device."""
    found = {"cpu": f"{num_cpus()} cores", "cuda": "no", "mps": "no"}
    if not _built_for_devices():
        return found
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found["cuda"] = ", ".join(names) or "no"
    found["mps"] = "yes" if torch.backends.mps.is_available() else "no"
    return found


def _built_for_devices() -> bool:
    """Return whether the installed PyTorch supports another device than the CPU."""
    if sys.platform == "darwin":
        return True
    package = importlib.util.find_spec("torch")
    if package is None or package.origin is None:
        return False
    # the file in which a build of PyTorch says what it was built for; it imports nothing of torch
    spec = importlib.util.spec_from_file_location(
        "torch_version", Path(package.origin).with_name("version.py")
    )
    assert spec is not None and spec.loader is not None
    version = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(version)
    except (OSError, ImportError):  # another layout: ask torch itself
        return True
    return any(getattr(version, name, None) for name in ("cuda", "hip", "xpu"))


def render_engines() -> dict[str, str]:
    """Return {engine: "works" or the reason why not}; takes seconds, as every engine renders an image."""
    from simscaleai.rendering.gl_engine import gl_packages

    if not gl_packages():
        return {"gl": "not installed: pip install 'simscaleai[gl]'", "warp": _warp()}
    # each waits for a process of its own; one core is for warp, which takes as long as the others together
    with ThreadPoolExecutor(max(1, num_cpus() - 1)) as pool:
        gl = {f"gl ({backend})": pool.submit(_gl, backend) for backend in GL_BACKENDS}
        warp = _warp()
        return {name: future.result() for name, future in gl.items()} | {"warp": warp}


def _gl(backend: str) -> str:
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if backend == "glfw" and sys.platform == "linux" and not any(map(os.environ.get, displays)):
        return NO_DISPLAY  # known without a second of trying
    return _runs(_DRAW_GL, MUJOCO_GL=backend)


def _warp() -> str:
    if importlib.util.find_spec("mujoco_warp") is None:
        return "not installed: pip install 'simscaleai[render]'"
    return _runs(_DRAW_WARP, COMPILE_SECONDS)


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
    if lines and "OpenGL" in done.stderr and lines[-1].startswith("AttributeError"):
        return "no: its library is not installed"  # PyOpenGL looked functions up in None
    if lines and "mjr_makeContext" in lines[-1]:  # MuJoCo found no OpenGL context
        return NO_DISPLAY
    return f"no: {lines[-1]}" if lines else f"no: exit code {done.returncode}"
