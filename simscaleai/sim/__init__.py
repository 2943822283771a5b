"""Simulation: environments by name, one or many at once.

from simscaleai.sim import make_env
env = make_env("pick_place")
"""

from simscaleai.sim import mujoco_library
from simscaleai.sim.base_env import BaseRobotEnv, CameraConfig, SimConfig
from simscaleai.sim.factory import list_envs, make_env, make_vec_env, register_env

mujoco_library.stop_profiler()
mujoco_library.stop_log_file()
mujoco_library.log_warnings()

__all__ = [
    "BaseRobotEnv",
    "CameraConfig",
    "SimConfig",
    "list_envs",
    "make_env",
    "make_vec_env",
    "register_env",
]
