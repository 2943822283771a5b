"""Choose the camera of a scene that shows most of what an episode is about."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from simscaleai.rendering import Renderer
from simscaleai.rendering.loading import visible
from simscaleai.rollout.env_checks import task_of
from simscaleai.sim.base_env import CameraConfig
from simscaleai.sim.scene_cameras import OBSERVER, view_of
from simscaleai.sim.vector_env import TaskVectorEnv

_LOOK = (96, 96)  # pixels, enough to find a cube of 4 cm
_ENOUGH = 3  # pixels of a thing that is visible


def clear_view(env: TaskVectorEnv, times: Iterable[object], size: tuple[int, int]) -> CameraConfig:
    """Return the camera in which hand, objects and goals are visible most often.

    `observer_cam` wins a tie, and then the first camera of the scene. Cameras that move with a body are not
    taken: a view that moves is hard to follow.

    Args:
      env: simulations.
      times: after each item, `env` is in a state to look at.
      size: (height, width) of the camera's images.
    """
    model = env.model
    known = [model.camera(i).name for i in range(model.ncam) if model.cam_bodyid[i] == 0]
    names = sorted(known, key=lambda name: name != OBSERVER)
    things = _things(env)
    if len(names) < 2 or not things:
        return view_of(model, None, size)
    views = [view_of(model, name, _LOOK) for name in names]
    engine = env.config.render_engine
    counts = np.zeros(len(names), dtype=np.int64)
    with closing(Renderer(model, views, env.num_envs, engine=engine)) as renderer:
        for _ in times:
            images = renderer.render(env.sim.render_state(), segmentation=True)
            counts += [_visible_things(images[name]["segmentation"], things) for name in names]
    return view_of(model, names[int(np.argmax(counts))], size)  # the first of the best ones


def _things(env: TaskVectorEnv) -> list[NDArray[np.intp]]:
    """Return the visible geoms of the hand, and of each object and goal."""
    task, model = task_of(env), env.model
    if task is None:  # which things matter, only a task says
        return []
    hand = int(model.site_bodyid[task.controller.site])
    named = [model.body(name).id for name in (*task.mocap_bodies, *task.free_bodies)]
    geoms = visible(model)
    found = [geoms[model.geom_bodyid[geoms] == body] for body in (hand, *named)]
    return [things for things in found if len(things)]  # a latent's body has none


def _visible_things(images: NDArray[np.int32], things: list[NDArray[np.intp]]) -> int:
    """Return how many things are visible, summed over episodes; images (n, H, W) of geom ids."""
    pixels = [np.isin(images, geoms).sum((1, 2)) for geoms in things]  # (n,) each
    return int(sum((count >= _ENOUGH).sum() for count in pixels))
