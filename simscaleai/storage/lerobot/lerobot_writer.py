"""Write a dataset as a folder in the format of LeRobot, version 3.0; see `storage.lerobot`.

Data files have one row group for each episode. What LeRobot has no place for (contract, seeds, success,
splits) is in `meta/simscale.parquet`, from which `lerobot_reader` gives back the very same episodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simscaleai.array_types import ArrayDict
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import OBS
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.camera_videos import video_info, write_camera
from simscaleai.storage.lerobot.feature_statistics import FeatureStatistics
from simscaleai.storage.lerobot.frame_images import encode_images
from simscaleai.storage.lerobot.frame_rate import whole_frame_rate
from simscaleai.storage.lerobot.layout import Feature
from simscaleai.storage.lerobot.lerobot_columns import LeRobotColumns, flat_state
from simscaleai.storage.lerobot.own_table import write_own_table
from simscaleai.storage.lerobot.parquet_files import DataFiles, EpisodeFiles
from simscaleai.storage.lerobot.subtask_rows import Subtasks, subtask_column
from simscaleai.storage.lerobot.tasks_table import write_tasks
from simscaleai.storage.recorded_episode import read_episode

if TYPE_CHECKING:
    import pyarrow as pa


class LeRobotWriter:
    """Writes an open dataset to a new folder.

    Args:
      data: the dataset.
      folder: an empty folder.
      video: store images as H.264, which is smaller and loses detail, instead of PNG.
      fps: frames per second of a dataset that does not say so itself.
      subtasks: function of an episode's position to its subtasks, which become `language_persistent`.

    Raises:
      UserError: the dataset has no whole number of frames per second, or an array that LeRobot cannot hold.
    """

    def __init__(
        self,
        data: EpisodeSource,
        folder: Path,
        *,
        video: bool = False,
        fps: int | None = None,
        subtasks: Callable[[int], Subtasks] | None = None,
    ) -> None:
        self._data, self._folder, self._subtasks = data, folder, subtasks
        self._columns = LeRobotColumns.of(data, video=video)
        self.fps = whole_frame_rate(data, fps)
        # an episode without frames has no line in any data file
        self._episodes = [i for i, episode in enumerate(data.episodes) if episode.length]
        if not self._episodes:
            raise UserError(
                f"{data.path} holds no episode with a step; there is nothing to export."
            )
        self.steps = sum(data.episodes[i].length for i in self._episodes)
        self._features = self._columns.all_features()
        if subtasks is not None:
            for name in (layout.SUBTASKS, layout.EVENTS):
                self._features[name] = Feature("language", (1,))
        for feature in self._features.values():
            if feature.dtype == "video":
                feature.info.update(video_info(feature, self.fps))
        self._statistics = {
            name: FeatureStatistics(self.steps, is_image=feature.is_image)
            for name, feature in self._features.items()
            if feature.dtype != "language"
        }
        # a dict and not a set: tasks are numbered in the order in which they first occur
        sentences = dict.fromkeys(data.episodes[i].language for i in self._episodes)
        self._tasks = {text: k for k, text in enumerate(sentences)}

    def write(self, on_episode: Callable[[int], None] = lambda length: None) -> None:
        """Write everything; `on_episode` is called with the length of each finished episode."""
        with (
            closing(DataFiles(self._folder)) as data,
            closing(EpisodeFiles(self._folder)) as about,
        ):
            # before the tables, since meta/episodes says where in its video an episode begins
            videos = self._videos()
            start = 0
            for number, i in enumerate(self._episodes):
                arrays = read_episode(self._data, i).arrays()
                columns = self._episode(arrays, number, start, self._data.episodes[i].language)
                own = {name: self._statistics[name].add(v) for name, v in columns.items()}
                place = data.add(self._table(columns, i))
                start += self._data.episodes[i].length
                line = self._about_episode(i, number, start) | place
                for camera, places in videos.items():
                    line |= {f"videos/{camera}/{k}": v for k, v in places[number].items()}
                about.add(line | _flat("stats", own))
                on_episode(self._data.episodes[i].length)
        write_tasks(self._folder, list(self._tasks))
        write_own_table(self._folder, self._data, self._episodes, self._columns)
        _write_json(self._folder / layout.INFO, self._info())
        total = {name: values.total() for name, values in self._statistics.items()}
        _write_json(self._folder / layout.STATS, total)

    def _episode(self, arrays: ArrayDict, number: int, start: int, language: str) -> ArrayDict:
        """Return {feature: (T, ...)} of an episode; `start` is the number of its first frame."""
        columns: ArrayDict = {}
        steps = len(arrays["actions"])
        for name, feature in self._columns.features.items():
            if name == layout.STATE:
                columns[name] = flat_state(arrays, [key for key, _ in self._columns.state])
            elif name in self._columns.images:
                columns[name] = arrays[OBS + self._columns.images[name][0]]
            else:
                columns[name] = arrays[self._columns.arrays[name]].reshape(steps, *feature.shape)
        frame = np.arange(steps)
        counters = {
            "timestamp": frame / self.fps,
            "frame_index": frame,
            "episode_index": np.full(steps, number),
            "index": start + frame,
            "task_index": np.full(steps, self._tasks[language]),
        }
        for name, kind in layout.DEFAULT_FEATURES.items():
            columns[name] = counters[name].astype(kind)[:, None]  # (T, 1)
        return columns

    def _table(self, columns: ArrayDict, i: int) -> pa.Table:
        """Return the lines of an episode in a data file."""
        import pyarrow as pa

        table: dict[str, pa.Array] = {}
        for name, values in columns.items():
            dtype = self._features[name].dtype
            if dtype == "image":
                table[name] = encode_images(values)
            elif dtype != "video":
                table[name] = layout.to_arrow(values)
        if self._subtasks is not None:
            steps = len(columns["index"])
            table[layout.SUBTASKS] = subtask_column(self._subtasks(i), steps, self.fps)
            table[layout.EVENTS] = subtask_column(None, steps, self.fps)
        return pa.table(table)

    def _about_episode(self, i: int, number: int, stop: int) -> JsonDict:
        """Return the line of an episode in meta/episodes, without its files and statistics."""
        episode = self._data.episodes[i]
        return {
            "episode_index": number,
            "tasks": [episode.language],
            "length": episode.length,
            "dataset_from_index": stop - episode.length,
            "dataset_to_index": stop,
        }

    def _videos(self) -> dict[str, list[JsonDict]]:
        """Write the videos of all cameras; return {feature: [place of each episode in its files]}."""
        cameras = [name for name, f in self._columns.features.items() if f.dtype == "video"]
        return {
            name: list(
                write_camera(
                    self._folder, self._data, self._episodes, self._columns, name, self.fps
                )
            )
            for name in cameras
        }

    def _info(self) -> JsonDict:
        """Return the content of meta/info.json."""
        contract = self._data.contract
        robot = None if contract is None else contract.env_config.get("robot", "panda")
        has_video = any(f.dtype == "video" for f in self._features.values())
        count = len(self._episodes)
        return {
            "codebase_version": layout.VERSION,
            "robot_type": robot,
            "total_episodes": count,
            "total_frames": self.steps,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.CHUNK_FILES,
            "data_files_size_in_mb": layout.DATA_MB,
            "video_files_size_in_mb": layout.VIDEO_MB,
            "fps": self.fps,
            "splits": {"train": f"0:{count}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if has_video else None,
            "features": {name: feature.to_dict() for name, feature in self._features.items()},
        }


def _flat(prefix: str, values: JsonDict) -> JsonDict:
    """Return {"stats/action/mean": ...} for {"action": {"mean": ...}}."""
    return {
        f"{prefix}/{name}/{statistic}": value
        for name, by_name in values.items()
        for statistic, value in by_name.items()
    }


def _write_json(path: Path, values: JsonDict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=4, ensure_ascii=False) + "\n", "utf-8")
