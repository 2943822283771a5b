"""Figures and videos of environments, datasets, runs and policies: the `viz-` commands as functions.

    figure = plot_trajectory("data/reach.h5", episode=0)
    save_or_show(figure, "trajectory.png")

    record_video("rollout.mp4", "pick_place", n_episodes=4)

Each `plot_` function returns a `matplotlib.figure.Figure`, which the caller may change and save. The
functions need the extra `viz`; it includes `mujoco_warp`, which renders without OpenGL.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.storage.atomic import require_writable
from simscaleai.storage.video import write_gif, write_video
from simscaleai.tools.figures.camera_figure import plot_cameras
from simscaleai.tools.figures.curves import plot_rl, plot_training
from simscaleai.tools.figures.dataset_figure import plot_dataset
from simscaleai.tools.figures.rollout import RolloutFrame, find_episodes, record
from simscaleai.tools.figures.run_groups import (
    REINFORCEMENT,
    TRAINING,
    Panel,
    find_runs,
    plot_several,
)
from simscaleai.tools.figures.scenes import contact_sheet, plot_env
from simscaleai.tools.figures.style import check_target, save_or_show
from simscaleai.tools.figures.tiles import compose
from simscaleai.tools.figures.trajectory import plot_trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "check_target",
    "contact_sheet",
    "plot_cameras",
    "plot_dataset",
    "plot_env",
    "plot_rl",
    "plot_rl_runs",
    "plot_trajectory",
    "plot_training",
    "plot_training_runs",
    "record_video",
    "save_or_show",
    "write_rollout",
]

REST = 1.0  # s for which the last frame is repeated


class VideoSummary(TypedDict):
    """Result of recording a video."""

    output_path: str
    frames: int
    n_episodes: int
    successes: int


def plot_training_runs(runs: Sequence[str | Path]) -> Figure:
    """Draw one training run as `plot_training`, and several as means over their seeds, with a band.

    Args:
      runs: runs, and folders of runs such as a sweep.

    Raises:
      UserError: a run does not exist, or is one of reinforcement learning.
    """
    return _plot_runs(runs, plot_training, TRAINING, "optimizer steps")


def plot_rl_runs(runs: Sequence[str | Path]) -> Figure:
    """Draw one run of reinforcement learning as `plot_rl`, and several as `plot_training_runs` does.

    Args:
      runs: as of `plot_training_runs`.

    Raises:
      UserError: a run does not exist, or is one on a dataset.
    """
    return _plot_runs(runs, plot_rl, REINFORCEMENT, "environment steps")


def _plot_runs(
    runs: Sequence[str | Path],
    plot_one: Callable[[Path], Figure],
    panels: Sequence[Panel],
    xlabel: str,
) -> Figure:
    found = find_runs(runs)
    return plot_one(found[0]) if len(found) == 1 else plot_several(found, panels, xlabel)


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
    episodes: Sequence[int] | None = None,
    only: str | None = None,
    speed: float = 1.0,
    env_kwargs: Mapping[str, object] | None = None,
    instruction: str | None = None,
) -> VideoSummary:
    """Record a video of a policy: episodes side by side, each marked with its number and outcome.

    Args:
      path: the mp4 or gif file; an existing one is replaced.
      env_name: name of the environment; None for that of the checkpoint, or "reach" for other policies.
      policy: "scripted" (the expert), "random", a checkpoint, a run, or a function "module:function".
      n_episodes: number of tiles, for the first episodes of `simscale eval --seed`.
      seed: seed of the episodes, as in `simscale eval --seed`.
      randomize: randomization level; None for no randomization.
      camera: a camera, such as "front_cam" or "front_cam:320x240"; None for one that shows hand, objects and
        goals at the start.
      size: height and width of a tile, pixels, unless `camera` says one.
      n_steps: control steps after which to stop; None to stop when all episodes have ended.
      robot: name of a robot; None for that of the checkpoint, or the Panda for other policies.
      episodes: numbers of episodes, as in the results of `simscale eval`, in place of `n_episodes`.
      only: "failures" or "successes", to show the first `n_episodes` that ended so.
      speed: simulated seconds per second of the video.
      env_kwargs: further fields of `SimConfig`.
      instruction: one sentence for every episode; None for the task's own.

    Returns:
      {"output_path", "frames", "n_episodes", "successes"}.

    Raises:
      UserError: a name is unknown, the arguments are incompatible, or no render engine works here.
    """
    path = _video_path(path)
    if not 0.01 <= speed <= 100:
        raise UserError(f"speed is {speed}; it must be between 0.01 and 100.")
    if episodes and only is not None:
        raise UserError("episodes names the episodes to show; leave out only.")
    source = find_policy_source(policy, env_name, randomize, robot=robot, env_kwargs=env_kwargs)
    if only is not None:
        episodes = find_episodes(source, only, n_episodes, seed, instruction)
    snapshots = record(
        source,
        n_episodes,
        camera=camera,
        size=(size, size),
        seed=seed,
        n_steps=n_steps,
        episodes=episodes or None,
        instruction=instruction,
    )
    return write_rollout(path, snapshots, source.config.control_dt, speed)


def write_rollout(
    path: str | Path, snapshots: Iterable[RolloutFrame], seconds: float, speed: float = 1.0
) -> VideoSummary:
    """Write the snapshots of `record` as an mp4 or gif file; see `record_video`.

    Args:
      path: the file.
      snapshots: snapshots of n episodes.
      seconds: duration of one step.
      speed: simulated seconds per second of the video.
    """
    last: list[RolloutFrame] = []  # the newest snapshot; the episodes are not kept in memory

    def frames() -> Iterator[NDArray[np.uint8]]:
        for snapshot in snapshots:
            last[:] = [snapshot]
            yield (frame := compose(snapshot, seconds))
        # players stop or start again at once: hold the outcome
        yield from itertools.repeat(frame, round(REST * speed / seconds))

    write = write_gif if Path(path).suffix.lower() == ".gif" else write_video
    count = write(path, frames(), fps=speed / seconds)
    success = last[0].success
    return {
        "output_path": str(path),
        "frames": count,
        "n_episodes": len(success),
        "successes": int(success.sum()),
    }


def _video_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in ("", ".mp4", ".gif"):
        raise UserError(
            f"A video is an mp4 or gif file; give a name that ends with .mp4 or .gif, not {path.name}."
        )
    path = path if path.suffix else path.with_suffix(".mp4")
    # before the episodes are run
    require_writable(path, "give another file with --save")
    return path
