"""Figure of one state of a scene in all cameras: RGB, depth and segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from simscaleai.array_types import ArrayDict
from simscaleai.convert import converted
from simscaleai.evaluation.suite import episode_seed
from simscaleai.rendering import Renderer
from simscaleai.rollout.gym_types import GymEnv
from simscaleai.rollout.loop import run_episodes
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.sim.factory import make_policy_env
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

NOTHING = "#D0D0D0"  # pixels without a geom
COLORS = (BLUE, ORANGE, GREEN, RED, PINK, SKY, YELLOW)
SIDE = 2.6  # inches
FAR = 1.6  # times the median depth: everything behind it, mostly floor, gets the last color


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
    env_kwargs: Mapping[str, object] | None = None,
) -> Figure:
    """Draw RGB, depth and segmentation, one row for each camera.

    Args:
      env_name: name of the environment.
      cameras: cameras, such as "wrist_cam" or "wrist_cam:96x72:50"; None or an empty list for all.
      n_steps: control steps of the expert before rendering; 0 for the start of the episode.
      seed: seed of the episode.
      randomize: randomization level; None for no randomization.
      size: height and width of images of cameras without a size, pixels.
      robot: name of a robot.
      env_kwargs: further fields of `SimConfig`.

    Raises:
      UserError: the environment or a camera is unknown, or no render engine works here.
    """
    source = find_policy_source("scripted", env_name, randomize, robot=robot, env_kwargs=env_kwargs)
    env: GymEnv = make_policy_env(source.env_name, source.config)
    try:
        steps = run_episodes(env, source.policy(env), [episode_seed(seed, 0)])
        for _ in islice(steps, 1 + n_steps):  # the first item is the reset
            pass
        time = float(env.data.time)
        names = cameras or [env.model.camera(i).name for i in range(env.model.ncam)]
        configs = [view_of(env.model, name, (size, size)) for name in names]
        renderer = Renderer(env.model, configs, engine=env.config.render_engine, samples=2)
        rendered = renderer.render(env.sim.render_state(), depth=True, segmentation=True)
        # {camera: {kind: (H, W, ...)}}, without the axis of n = 1 simulation
        views = {
            name: {kind: image[0] for kind, image in images.items()}
            for name, images in rendered.items()
        }
        renderer.close()
        labels = geom_labels(env.model)
    finally:
        env.close()
    return _draw(views, labels, f"Cameras of {env_name} after {time:.2f} s")


def geom_labels(model: mujoco.MjModel) -> list[str]:
    """Return a label for each geom: "robot", its own name, or the name of its root body.

    A kinematic tree of several bodies is called "robot"; the bodies of an arm are one thing to a reader.
    """
    links = np.bincount(model.body_rootid, minlength=model.nbody)  # bodies of each tree
    names = []
    for i in range(model.ngeom):
        root = int(model.body_rootid[model.geom_bodyid[i]])
        name = model.geom(i).name
        names.append("robot" if links[root] > 1 and root else name or model.body(root).name)
    return names


def _draw(views: dict[str, ArrayDict], labels: list[str], title: str) -> Figure:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    order = sorted(set(labels), key=labels.index)
    number = {name: i for i, name in enumerate(order)}
    of_geom = np.array([number[name] for name in labels])  # (ngeom,), index of its label
    colors = [COLORS[i % len(COLORS)] for i in range(len(order))]
    palette = np.array([to_rgb(color) for color in (*colors, NOTHING)])  # index -1 is `NOTHING`
    tall = max(view["depth"].shape[0] / view["depth"].shape[1] for view in views.values())
    figure = new_figure(3 * SIDE + 2.2, 0.4 + (SIDE * min(1.0, tall) + 0.25) * len(views), title)
    grid = figure.subplots(len(views), 3, squeeze=False)
    for row, (name, view) in zip(grid, views.items(), strict=True):
        show_image(row[0], view["rgb"])
        row[0].set_ylabel(name)
        geoms = view["segmentation"]  # (H, W), geom ids, -1 for none
        depth = np.where(geoms >= 0, view["depth"], np.nan)  # (H, W), m
        far, limit = np.nanmax(depth), FAR * np.nanmedian(depth)
        image = show_image(row[1], depth, cmap="viridis", vmax=min(far, limit))
        extend = "max" if far > limit else "neither"
        figure.colorbar(image, ax=row[1], extend=extend, fraction=0.046, pad=0.02)
        kinds = np.where(geoms >= 0, of_geom[geoms], -1)  # (H, W), index of the label
        show_image(row[2], palette[kinds])
        patches = [
            Patch(color=palette[i], label=[*order, "nothing"][i]) for i in np.unique(kinds).tolist()
        ]
        row[2].legend(handles=patches, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes, column in zip(grid[0], ("RGB", "Depth (m)", "Segmentation"), strict=True):
        axes.set_title(column)
    return figure
