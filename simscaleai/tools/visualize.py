"""Pictures of environments, datasets, runs and policies: what the `viz-` commands make, as functions.

    figure = plot_trajectory("data/reach.h5", episode=0)
    save_or_show(figure, "trajectory.png")

    record_video("rollout.mp4", "pick_place", n_episodes=4)

Each `plot_` function returns a `matplotlib.figure.Figure`, which is the caller's to change and to save. The
extra `viz` is needed. Cameras need no OpenGL where `mujoco_warp`, part of that extra, is installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.storage.atomic import require_writable
from simscaleai.storage.video import write_video
from simscaleai.tools.figures.camera_figure import plot_cameras
from simscaleai.tools.figures.curves import plot_rl, plot_training
from simscaleai.tools.figures.dataset_figure import plot_dataset
from simscaleai.tools.figures.rollout import RolloutFrame, record
from simscaleai.tools.figures.scenes import contact_sheet, plot_env
from simscaleai.tools.figures.style import check_target, save_or_show
from simscaleai.tools.figures.tiles import compose
from simscaleai.tools.figures.trajectory import plot_trajectory

__all__ = [
    "check_target",
    "contact_sheet",
    "plot_cameras",
    "plot_dataset",
    "plot_env",
    "plot_rl",
    "plot_trajectory",
    "plot_training",
    "record_video",
    "save_or_show",
    "write_rollout",
]

REST = 1.0  # s that the end of the last episode stays in view


@converted
def record_video(
    path: str | Path,
    env_name: str | None = None,
    policy: str = "scripted",
    n_episodes: int = 4,
    *,
    seed: int = 0,
    randomize: str | None = None,
    camera: str | None = None,
    size: int = 256,
    n_steps: int | None = None,
    robot: str | None = None,
) -> dict[str, Any]:
    """Film a policy: episodes side by side in real time, each marked with how it ended.

    Args:
      path: the mp4 file, replaced if it is there.
      env_name: environment; None is the checkpoint's own, and "reach" for the other policies.
      policy: "scripted" (the expert), "random", a checkpoint, a run, or a function "module:function".
      n_episodes: tiles; the episodes that `simscale eval --seed` begins with.
      seed: which episodes.
      randomize: randomization level; None for none.
      camera: one of the scene's; None is `observer_cam`, or the first one of a scene without it.
      size: height and width of a tile, pixels.
      n_steps: control steps after which to stop; None until all episodes are over.
      robot: name of a robot; None is the checkpoint's own, or the Panda for other policies.

    Returns:
      {"output_path", "frames", "n_episodes", "successes"}.

    Raises:
      UserError: something of this is unknown, does not fit together, or nothing can render here.
    """
    path = _video_path(path)
    source = find_policy_source(policy, env_name, randomize, robot=robot)
    moments = record(
        source, n_episodes, camera=camera, size=(size, size), seed=seed, n_steps=n_steps
    )
    return write_rollout(path, moments, source.config.control_dt)


def write_rollout(
    path: str | Path, moments: Iterable[RolloutFrame], seconds: float
) -> dict[str, Any]:
    """Write what `record` yields as an mp4 file; see `record_video`.

    Args:
      path: the file.
      moments: of n episodes.
      seconds: of one step.
    """
    last: list[RolloutFrame] = []

    def frames() -> Iterator[Any]:
        for moment in moments:
            last[:] = [moment]
            yield (frame := compose(moment, seconds))
        yield from itertools.repeat(frame, round(REST / seconds))

    count = write_video(path, frames(), fps=1 / seconds)
    success = last[0].success
    return {
        "output_path": str(path),
        "frames": count,
        "n_episodes": len(success),
        "successes": int(success.sum()),
    }


def _video_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in ("", ".mp4"):
        raise UserError(
            f"A video is an mp4 file; give a name that ends with .mp4, not {path.name}."
        )
    path = path.with_suffix(".mp4")
    require_writable(path, "give another file with --save")
    return path
