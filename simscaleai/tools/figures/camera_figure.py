"""One moment of a scene through its cameras: colours, distances, and which pixel shows what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.convert import converted
from simscaleai.evaluation.suite import episode_seed
from simscaleai.rendering import Renderer
from simscaleai.rollout.loop import run_episodes
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.sim.factory import make_env
from simscaleai.sim.scene_cameras import view_of
from simscaleai.tools.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SKY,
    YELLOW,
    new_figure,
    show_image,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTHING = "#D0D0D0"
COLOURS = (BLUE, ORANGE, GREEN, RED, PINK, SKY, YELLOW)
SIDE = 2.6  # inches
FAR = 1.6  # times the median depth: what lies behind, mostly floor, has one colour


@converted
@styled
def plot_cameras(
    env_name: str = "reach",
    cameras: Sequence[str] | None = None,
    n_steps: int = 12,
    *,
    seed: int = 0,
    randomize: str | None = None,
    size: int = 256,
    robot: str = "panda",
) -> Figure:
    """RGB, depth and segmentation of each camera, a row each.

    Args:
      env_name: environment.
      cameras: names; None or none for all that the scene has.
      n_steps: control steps of the expert before the pictures are taken; 0 for the start of the episode.
      seed: which episode.
      randomize: randomization level; None for none.
      size: height and width of an image, pixels.
      robot: name of a robot.

    Raises:
      UserError: an unknown environment or camera, or nothing can render here.
    """
    source = find_policy_source("scripted", env_name, randomize, robot=robot)
    env: Any = make_env(env_name, config=source.config)
    try:
        steps = run_episodes(env, source.policy(env), [episode_seed(seed, 0)])
        for _ in islice(steps, 1 + n_steps):  # the first one is the reset
            pass
        time = float(env.data.time)
        names = cameras or [env.model.camera(i).name for i in range(env.model.ncam)]
        configs = [view_of(env.model, name, (size, size)) for name in names]
        renderer = Renderer(env.model, configs, engine=env.config.render_engine, samples=2)
        seen = renderer.render(env.sim.render_state(), depth=True, segmentation=True)
        shots = {
            name: {kind: picture[0] for kind, picture in pictures.items()}
            for name, pictures in seen.items()
        }
        renderer.close()
        things = things_of(env.model)
    finally:
        env.close()
    return _draw(shots, things, f"Cameras of {env_name} after {time:.2f} s")


def things_of(model: mujoco.MjModel) -> list[str]:
    """What each geom is part of, in words: its own name, or that of the body that it moves with.

    Bodies that hang together by joints, as an arm, are one thing.
    """
    links = np.bincount(model.body_rootid, minlength=model.nbody)
    names = []
    for i in range(model.ngeom):
        root = int(model.body_rootid[model.geom_bodyid[i]])
        name = model.geom(i).name
        names.append("robot" if links[root] > 1 and root else name or model.body(root).name)
    return names


def _draw(shots: dict[str, dict[str, NDArray[Any]]], things: list[str], title: str) -> Figure:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    order = sorted(set(things), key=things.index)
    number = {name: i for i, name in enumerate(order)}
    of_geom = np.array([number[name] for name in things])
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(order))]
    named = np.array([to_rgb(colour) for colour in (*colours, NOTHING)])  # -1 is nothing
    figure = new_figure(3 * SIDE + 2.2, 0.4 + (SIDE + 0.25) * len(shots), title)
    grid = figure.subplots(len(shots), 3, squeeze=False)
    for row, (name, shot) in zip(grid, shots.items(), strict=True):
        show_image(row[0], shot["rgb"])
        row[0].set_ylabel(name)
        geoms = shot["segmentation"]
        depth = np.where(geoms >= 0, shot["depth"], np.nan)
        far, limit = np.nanmax(depth), FAR * np.nanmedian(depth)
        image = show_image(row[1], depth, cmap="viridis", vmax=min(far, limit))
        extend = "max" if far > limit else "neither"
        figure.colorbar(image, ax=row[1], extend=extend, fraction=0.046, pad=0.02)
        kinds = np.where(geoms >= 0, of_geom[geoms], -1)
        show_image(row[2], named[kinds])
        patches = [
            Patch(color=named[i], label=[*order, "nothing"][i]) for i in np.unique(kinds).tolist()
        ]
        row[2].legend(handles=patches, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes, column in zip(grid[0], ("RGB", "Depth (m)", "Segmentation"), strict=True):
        axes.set_title(column)
    return figure
