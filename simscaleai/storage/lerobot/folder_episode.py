"""What the tables of a LeRobot folder say of its episodes."""

from __future__ import annotations

from dataclasses import dataclass

from simscaleai.json_types import JsonDict
from simscaleai.storage.lerobot.lerobot_columns import LeRobotColumns


@dataclass(frozen=True)
class FolderEpisode:
    """What meta/episodes says of an episode.

    Attributes:
      length: number of frames.
      task: its instruction.
      data: chunk and file of its frames.
      videos: {feature: (chunk, file, number of its first frame there)}.
    """

    length: int
    task: str
    data: tuple[int, int]
    videos: dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class OwnTable:
    """What `meta/simscale.parquet` adds.

    Attributes:
      lines: one mapping for each episode.
      masks: names of all masks.
      env_args: JSON text of the dataset that was exported.
      columns: of its arrays.
    """

    lines: list[JsonDict]
    masks: list[str]
    env_args: str
    columns: LeRobotColumns
