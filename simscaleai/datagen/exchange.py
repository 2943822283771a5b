"""Datasets in the formats of other projects: export ours, import theirs.

export_dataset("data/reach.h5", "data/reach_lerobot", format="lerobot")
import_dataset("data/reach_lerobot", "data/again.h5")      # the same content hash
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from simscaleai.convert import converted
from simscaleai.datagen.dataset_output import DatasetOutput, NewDataset
from simscaleai.datagen.progress_bar import EpisodeCounts, ProgressBar
from simscaleai.datagen.subtasks import SubtaskFinder
from simscaleai.errors import UserError, unknown_name
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic_folder import atomic_folder
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.lerobot_folder import LeRobotFolder
from simscaleai.storage.lerobot.lerobot_reader import LeRobotReader
from simscaleai.storage.lerobot.lerobot_writer import LeRobotWriter
from simscaleai.storage.zarr_writer import MARKER, ZarrWriter

_MARKERS = {"lerobot": layout.INFO, "zarr": MARKER}  # a file by which the folder is recognized
FORMATS = tuple(_MARKERS)


@converted
def export_dataset(
    dataset: str | Path,
    output_path: str | Path,
    format: str = "lerobot",
    *,
    video: bool = False,
    subtasks: bool = False,
    fps: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write a dataset as a folder in the format of another project.

    Args:
      dataset: a file of episodes, or a folder of shards.
      output_path: the folder to write; its parent is created.
      format: "lerobot" (version 3.0), or "zarr" (the layout of diffusion_policy, see `storage.zarr_writer`).
      video: store images as H.264 and not as PNG: smaller, but pixels change.
      subtasks: write which stage of the task comes next as LeRobot's language columns, which lerobot 0.6 and
        later reads; the task has to be registered here.
      fps: frames per second, for a dataset that does not record it.
      overwrite: replace an existing folder of the same format.
      show_progress: draw a progress bar on stderr, if that is a terminal.

    Returns:
      {"total_episodes", "total_steps", "fps" (LeRobot), "output_path", "file_size_mb", "seconds"}.

    Raises:
      ExistingFileError: the output is there.
      UserError: the dataset cannot be read, or the format cannot hold it.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if format == "zarr" and (video or subtasks or fps is not None):
        raise UserError("video, subtasks and fps are of the format lerobot; leave them out.")
    began = time.perf_counter()
    output = Path(output_path)
    with (
        open_dataset(dataset) as data,
        atomic_folder(output, marker=_MARKERS[format], overwrite=overwrite) as temporary,
        ProgressBar(len(data), show=show_progress) as bar,
    ):
        bar.start()
        # subtasks need the simulator, which other exports do without
        finder = SubtaskFinder(data) if subtasks else None
        writer: LeRobotWriter | ZarrWriter
        try:
            if format == "zarr":
                writer = ZarrWriter(data, temporary)
            else:
                writer = LeRobotWriter(
                    data, temporary, video=video, fps=fps, subtasks=finder.find if finder else None
                )
            writer.write(lambda steps: bar.add(EpisodeCounts(1, 0, 1)))
        finally:
            if finder is not None:
                finder.close()
        count = len(data)
    return {
        "total_episodes": count,
        "total_steps": writer.steps,
        **({"fps": writer.fps} if isinstance(writer, LeRobotWriter) else {}),
        "output_path": str(output),
        "file_size_mb": sum(p.stat().st_size for p in output.rglob("*") if p.is_file()) / 1e6,
        "seconds": time.perf_counter() - began,
    }


@converted
def import_dataset(
    folder: str | Path,
    output_path: str | Path,
    *,
    shard_episodes: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write a LeRobot folder (version 3) as a dataset of ours.

    Of a folder of `export_dataset` everything but `next_obs` comes back: in image mode, the content hash is
    that of the dataset that was exported. A folder of another program gives observations named as there
    ("state", "images/<camera>"), without an environment contract: models train on it and act within the
    range of its actions.

    Args:
      folder: with `meta/info.json`.
      output_path: the file, or folder of shards, to write; its parent is created.
      shard_episodes: write a folder of shards with so many episodes each.
      overwrite: replace an existing output.
      show_progress: draw a progress bar on stderr, if that is a terminal.

    Returns:
      {"total_episodes", "total_steps", "output_path", "file_size_mb", "content_hash", "seconds"}, and
      "shards" of a folder.

    Raises:
      ExistingFileError: the output is there.
      UserError: the folder is no LeRobot dataset of version 3, damaged or refused.
    """
    began = time.perf_counter()
    output = DatasetOutput(Path(output_path), shard_episodes, overwrite)
    output.check()
    source = LeRobotFolder(folder)
    reader = LeRobotReader(source)
    lengths = [episode.length for episode in source.episodes]
    about = {"format": "lerobot", "fps": source.fps, "robot_type": source.robot_type}
    new = NewDataset(
        lengths,
        reader.contract,
        reader.splits,
        reader.env_id,
        # Another recipe than that of the source: `datagen --resume` must not take one for the other.
        {"recipe": json.dumps({"imported_from": about}), **about},
    )
    made = output.write(reader.episodes(), new, show=show_progress)
    return {
        "total_episodes": len(lengths),
        "total_steps": sum(lengths),
        **made,
        "seconds": time.perf_counter() - began,
    }
