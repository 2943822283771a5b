"""Read datasets of episodes: a file, ours or that of another tool, or a folder of shards.

    with open_dataset("data/reach.h5") as data:
        for i in data.split("train"):
            actions = data.read(i, "actions")          # (T, 4)
            target = data.read(i, "obs/target_pos", 0, 1)  # (1, 3)

A file and a folder give the same keys: "obs/<key>", "actions", "rewards". Whatever is opened is untrusted
input: `simscaleai.storage.hdf5` and `simscaleai.storage.manifest` list what is refused. Every failure is one
`UserError` sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simscaleai.errors import UserError
from simscaleai.storage.episode import Episode, EpisodeMeta
from simscaleai.storage.episode_file import EpisodeFile, open_file
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.lerobot.layout import is_lerobot
from simscaleai.storage.sharded_dataset import ShardedDataset

__all__ = [
    "Episode",
    "EpisodeFile",
    "EpisodeMeta",
    "EpisodeSource",
    "EpisodeWriter",
    "ShardedDataset",
    "open_dataset",
]


def open_dataset(
    path: str | Path, images: Mapping[str, str] | None = None, *, use_index: bool = True
) -> EpisodeSource:
    """Open a dataset for reading; use it as a context manager.

    Args:
      path: a file, or a folder of shards, of which only the manifest is read until episodes are asked for.
      images: {camera: observation}, to read images of another tool as `images/<camera>`, the first one as
        `image` too; the camera "image" gives `image` alone. Of a file only.
      use_index: whether to trust the index of a file, where it fits the file.

    Raises:
      UserError: there is no dataset, or it is damaged or refused.
    """
    if Path(path).is_dir():
        if is_lerobot(path):
            raise UserError(
                f"{path} is a LeRobot dataset, which only `simscale train` reads as it is; convert it with"
                f" `simscale import {path} --output data/imported.h5`."
            )
        return ShardedDataset(path, images, use_index=use_index)
    return open_file(path, images, use_index=use_index)
