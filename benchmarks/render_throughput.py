"""Images per second: the ray tracer, MuJoCo's renderer with its defaults, and tuned for speed.

    python benchmarks/render_throughput.py

The scene is pick_place with `front_cam` and `wrist_cam`, during episodes of the expert; each env has its
own state. A frame is one RGB image of one camera in the caller's memory. "gl" is `mujoco.Renderer` with the
settings of the scene (shadow map of 2048, 4 samples), "gl, MuJoCo's shadows" has MuJoCo's default of 4096,
and "gl tuned" has no shadows, reflections and multisampling, the least work that gives colors. OpenGL
renders one env after the other. Engines take turns; the table shows the best of the repeats, since load of
other users can only slow a repeat down.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from rich.console import Console
from rich.table import Table

from simscaleai.errors import UserError
from simscaleai.rendering import Renderer
from simscaleai.sim import CameraConfig, make_vec_env

SIZES = (64, 128, 224)
ROWS = (1, 16, 64)
# What OpenGL draws in one repeat: its speed does not depend on their number.
GL_FRAMES = 16
STEPS = 12


def tuned(model: mujoco.MjModel) -> mujoco.MjModel:
    """The model as OpenGL draws it fastest."""
    model = copy.copy(model)
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] = False
    model.mat_reflectance[:] = 0
    return model


def default_shadows(model: mujoco.MjModel) -> mujoco.MjModel:
    """The model with the shadow map that MuJoCo gives a scene which does not ask for another."""
    model = copy.copy(model)
    model.vis.quality.shadowsize = 4096
    return model


def stock(
    model: mujoco.MjModel, cameras: list[CameraConfig], data: list[mujoco.MjData]
) -> Callable[[], int]:
    """Draw with `mujoco.Renderer` and nothing of ours; gives the number of frames."""
    size = cameras[0].width
    model = copy.copy(model)
    renderer = mujoco.Renderer(model, size, size)
    rows = data[: max(1, GL_FRAMES // len(cameras))]
    out = np.empty((size, size, 3), np.uint8)

    def draw() -> int:
        for row in rows:
            for camera in cameras:
                renderer.update_scene(row, camera.name)
                renderer.render(out=out)
        return len(rows) * len(cameras)

    return draw


def traced(env: Any, cameras: list[CameraConfig], threads: int) -> Callable[[], int]:
    renderer = Renderer(env.model, cameras, env.num_envs, engine="warp", threads=threads)
    frames = env.num_envs * len(cameras)
    rounds = max(1, GL_FRAMES // frames)  # as many as OpenGL draws, at least

    def draw() -> int:
        for _ in range(rounds):
            renderer.render(env.sim.render_state())
        return rounds * frames

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of warp (0: one for each core)")
    args = parser.parse_args()
    names = ("warp", "gl", "gl, MuJoCo's shadows", "gl tuned")
    table = Table(
        "pixels", "simulations", *(f"{n}, frames/s" for n in names), "warp / gl", "warp / tuned"
    )
    for size in args.sizes:
        for n in args.rows:
            env = make_vec_env("pick_place", n)
            obs, _ = env.reset(seed=0)
            expert = env.task.expert()
            for _ in range(STEPS):
                obs, *_ = env.step(expert.act(obs))
            cameras = [CameraConfig(f"{name}_cam", size, size) for name in ("front", "wrist")]
            for camera in cameras:
                camera.fov = float(env.model.camera(camera.name).fovy[0])
            data = [env.sim.batch.get_data(i) for i in range(min(n, GL_FRAMES))]
            for row in data:
                mujoco.mj_forward(env.model, row)
            engines = {"warp": traced(env, cameras, args.threads)}
            try:
                engines["gl"] = stock(env.model, cameras, data)
                engines[names[2]] = stock(default_shadows(env.model), cameras, data)
                engines["gl tuned"] = stock(tuned(env.model), cameras, data)
            except (UserError, AttributeError, RuntimeError) as error:
                Console().print(f"No OpenGL here: {error}")
            best = dict.fromkeys(names, float("nan"))
            for draw in engines.values():
                draw()
            for _ in range(args.repeats):
                for name, draw in engines.items():
                    began = time.perf_counter()
                    frames = draw()
                    best[name] = np.fmax(best[name], frames / (time.perf_counter() - began))
            ratios = (best["warp"] / best["gl"], best["warp"] / best["gl tuned"])
            table.add_row(
                str(size),
                str(n),
                *(f"{best[k]:,.0f}" for k in names),
                *(f"{r:.1f}" for r in ratios),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
