"""Episodes in front of a camera, side by side: what the pictures and videos of a policy are made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError, unknown_name
from simscaleai.rl.episodes import episode_seed
from simscaleai.sim.base_env import CameraConfig
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.rendering import CameraRenderer
from simscaleai.sim.vector_env import TaskVectorEnv
from simscaleai.tools.driver import Driver

CAMERA = "side_cam"  # of our scenes


class Moment(NamedTuple):
    """n episodes at one time; those that are over stand as they ended.

    Attributes:
      pictures: (n, H, W, 3).
      steps: (n,) control steps taken.
      over: (n,) bool.
      success: (n,) bool, at any step until now.
    """

    pictures: NDArray[np.uint8]
    steps: NDArray[np.int64]
    over: NDArray[np.bool_]
    success: NDArray[np.bool_]

    def first(self, n: int) -> Moment:
        """The first n episodes alone."""
        return Moment(self.pictures[:n], self.steps[:n], self.over[:n], self.success[:n])


def record(
    driver: Driver,
    n_episodes: int = 1,
    *,
    camera: str | None = None,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
    n_steps: int | None = None,
) -> Iterator[Moment]:
    """Let a policy drive n episodes at once, those that `simscale eval --seed` begins with.

    Args:
      driver: see `find_driver`.
      n_episodes: how many.
      camera: one of the scene's, with the field of view that the scene gives it; None is `side_cam`, or the
        first one of a scene without it.
      size: (height, width) of a picture.
      seed: which episodes.
      n_steps: control steps after which to stop; None until all episodes are over.

    Yields:
      The start, and then the state after each step.

    Raises:
      UserError: the environment, the policy and the camera do not fit together, or nothing can render here.
    """
    if n_episodes < 1:
        raise UserError(f"n_episodes is {n_episodes}; it must be at least 1.")
    if n_steps is not None and n_steps < 1:
        raise UserError(f"n_steps is {n_steps}; it must be at least 1.")
    env = make_vec_env(driver.env_name, n_episodes, autoreset_mode="disabled", config=driver.config)
    try:
        policy = driver.policy(env)
        view = _View(env, view_of(env.model, camera, size))
        seeds = [episode_seed(seed, i) for i in range(n_episodes)]
        obs, info = env.reset(seed=seeds)
        policy.reset(np.ones(n_episodes, dtype=bool), seeds)
        steps = np.zeros(n_episodes, dtype=np.int64)
        over, success = steps.astype(bool), info["success"].copy()
        yield Moment(view.pictures(), steps.copy(), over.copy(), success.copy())
        limit = env.config.max_episode_steps if n_steps is None else n_steps
        while not over.all() and steps.max() < limit:
            obs, _, terminated, truncated, info = env.step(policy.act(obs))
            steps += ~over
            success |= info["success"] & ~over
            over |= terminated | truncated
            yield Moment(view.pictures(), steps.copy(), over.copy(), success.copy())
    finally:
        env.close()


def view_of(model: mujoco.MjModel, name: str | None, size: tuple[int, int]) -> CameraConfig:
    """A camera with the field of view that the scene gives it; None is `CAMERA`, or the scene's first.

    Raises:
      UserError: the scene has no such camera.
    """
    known = [model.camera(i).name for i in range(model.ncam)]
    if name is None:
        name = CAMERA if CAMERA in known or not known else known[0]
    if name not in known:
        raise unknown_name("camera", name, known)
    height, width = size
    return CameraConfig(name, width, height, float(model.camera(name).fovy[0]))


class _View:
    """The pictures of a camera in all rows of a vector environment."""

    def __init__(self, env: TaskVectorEnv, camera: CameraConfig) -> None:
        self._batch = env.sim.batch
        self._n = env.num_envs
        self._model = self._batch.get_model(0)
        self._data = mujoco.MjData(self._model)
        self._renderer = CameraRenderer(self._model, [camera])

    def pictures(self) -> NDArray[np.uint8]:
        """(n, H, W, 3)"""
        drawn = []
        for i in range(self._n):
            self._batch.get_model(i, self._model)
            self._batch.get_data(i, self._data)
            mujoco.mj_step1(self._model, self._data)
            drawn.append(self._renderer.render(self._data)["rgb"])
        return np.stack(drawn)

    def close(self) -> None:
        self._renderer.close()
