"""Write a dataset as a folder in the format of LeRobot, version 3.0; see `storage.lerobot`.

Data files have one row group for each episode. What LeRobot has no place for (contract, seeds, success,
splits) is in `meta/simscale.parquet`, from which `lerobot_reader` gives back the very same episodes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import ArrayDict
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import IDENTITY, OBS
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.feature_statistics import FeatureStatistics
from simscaleai.storage.lerobot.frame_images import encode_images
from simscaleai.storage.lerobot.layout import Feature
from simscaleai.storage.lerobot.lerobot_columns import LeRobotColumns, flat_state
from simscaleai.storage.lerobot.subtask_rows import Subtasks, subtask_column
from simscaleai.storage.recorded_episode import read_episode
from simscaleai.storage.video import write_video

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MIB = 2**20
_EPISODES_AT_ONCE = 1000  # lines of meta/episodes that are written together
_VIDEO_RATIO = 20  # of raw and encoded bytes, at least; it decides when a new video is begun
_KEYFRAME = 2  # frames between two keyframes, as LeRobot's: a sample reads single frames
_FPS_SLACK = 1e-6


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
        self.fps = _fps(data, fps)
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
                feature.info.update(_video_info(feature, self.fps))
        self._statistics = {
            name: FeatureStatistics(self.steps, is_image=feature.is_image)
            for name, feature in self._features.items()
            if feature.dtype != "language"
        }
        sentences = dict.fromkeys(data.episodes[i].language for i in self._episodes)
        self._tasks = {text: k for k, text in enumerate(sentences)}

    def write(self, on_episode: Callable[[int], None] = lambda length: None) -> None:
        """Write everything; `on_episode` is called with the length of each finished episode."""
        with (
            closing(_DataFiles(self._folder)) as data,
            closing(_EpisodeFiles(self._folder)) as about,
        ):
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
        self._write_tasks()
        self._write_own()
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
        return {name: list(self._camera(name)) for name in cameras}

    def _camera(self, feature: str) -> Iterator[JsonDict]:
        """Write the videos of one camera; yield the place of each episode."""
        key = OBS + self._columns.images[feature][0]
        raw_bytes = math.prod(self._columns.features[feature].shape)
        most = max(1, layout.VIDEO_MB * _MIB * _VIDEO_RATIO // raw_bytes)  # frames of a file
        lengths = [self._data.episodes[i].length for i in self._episodes]
        for number, (first, last) in enumerate(_groups(lengths, most)):
            place = layout.place(number)
            path = self._folder / layout.VIDEO.format(video_key=feature, **place)
            write_video(path, self._frames(self._episodes[first:last], key), self.fps, _KEYFRAME)
            stops = np.cumsum(lengths[first:last])
            for stop, length in zip(stops.tolist(), lengths[first:last], strict=True):
                seconds = {
                    "from_timestamp": (stop - length) / self.fps,
                    "to_timestamp": stop / self.fps,
                }
                yield place | seconds

    def _frames(self, episodes: Sequence[int], key: str) -> Iterator[NDArray[np.uint8]]:
        for i in episodes:
            yield from self._data.read(i, key)

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

    def _write_tasks(self) -> None:
        """Write the instructions as LeRobot reads them: a pandas table whose index is the text."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"task_index": list(self._tasks.values()), "task": list(self._tasks)})
        kinds = (("task_index", "int64"), ("task", "object"))
        about = {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [
                {"name": n, "field_name": n, "pandas_type": k, "numpy_type": k, "metadata": None}
                for n, k in kinds
            ],
            "creator": {"library": "pyarrow", "version": pa.__version__},
            "pandas_version": "2.2.0",
        }
        table = table.replace_schema_metadata({b"pandas": json.dumps(about).encode()})
        pq.write_table(table, self._folder / layout.TASKS)

    def _write_own(self) -> None:
        """Write what LeRobot has no place for, one line for each episode."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = self._data
        members = {name: set(positions) for name, positions in data.splits().items()}
        attributes = [
            name for name in (*IDENTITY, "model_sha256") if name not in ("seed", "success")
        ]
        episodes = [data.episodes[i] for i in self._episodes]
        table = pa.table(
            {
                "length": pa.array([e.length for e in episodes], pa.int64()),
                "seed": pa.array([e.seed for e in episodes], pa.uint64()),
                "success": pa.array([e.success for e in episodes], pa.bool_()),
                "masks": pa.array(
                    [sorted(m for m in members if i in members[m]) for i in self._episodes],
                    pa.list_(pa.string()),
                ),
                **{
                    name: pa.array(
                        [str(data.episode_attribute(i, name, "")) for i in self._episodes],
                        pa.string(),
                    )
                    for name in attributes
                },
            }
        )
        about = {
            "version": layout.OWN_VERSION,
            "env_args": data.attribute("env_args", "{}"),
            "masks": sorted(members),
            "columns": self._columns.to_dict(),
        }
        table = table.replace_schema_metadata({layout.OWN_KEY: json.dumps(about).encode()})
        pq.write_table(table, self._folder / layout.OWN, compression="zstd")


class _DataFiles:
    """The data files: a new one is begun where the last one is large enough."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, -1
        self._path = folder
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> JsonDict:
        """Write an episode; return where it is."""
        import pyarrow.parquet as pq

        full = self._writer is None or self._path.stat().st_size >= layout.DATA_MB * _MIB
        if self._writer is None or full:
            self.close()
            self._number += 1
            self._path = self._folder / layout.DATA.format(**layout.place(self._number))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy")
        self._writer.write_table(table, row_group_size=len(table))
        return {f"data/{k}": v for k, v in layout.place(self._number).items()}

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _EpisodeFiles:
    """The file of meta/episodes, written some lines at a time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / layout.EPISODES.format(**layout.place(0))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lines: list[JsonDict] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, line: JsonDict) -> None:
        self._lines.append({**line, **{f"meta/episodes/{k}": 0 for k in layout.place(0)}})
        if len(self._lines) >= _EPISODES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = None if self._writer is None else self._writer.schema
        table = pa.Table.from_pylist(self._lines, schema=schema)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy")
        self._writer.write_table(table)
        self._lines.clear()

    def close(self) -> None:
        if self._lines:
            self._flush()
        if self._writer is not None:
            self._writer.close()


def _fps(data: EpisodeSource, given: int | None) -> int:
    """Return the frames per second of a dataset, which LeRobot wants to be a whole number."""
    if data.contract is None:
        if given is None:
            raise UserError(
                f"{data.path} does not say how many frames a second it has; add --fps, such as --fps 20."
            )
        return given
    rate = 1 / data.contract.control_dt
    if abs(rate - round(rate)) > _FPS_SLACK * rate or round(rate) < 1:
        raise UserError(
            f"{data.path} has {rate:g} frames per second, and LeRobot wants a whole number; record it with a"
            " control_dt such as 0.05."
        )
    if given not in (None, round(rate)):
        raise UserError(
            f"{data.path} has {rate:g} frames per second, not {given}; leave --fps out."
        )
    return round(rate)


def _groups(lengths: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of consecutive episodes of at most `most` frames together, or of one."""
    first, frames = 0, 0
    for k, length in enumerate(lengths):
        if frames and frames + length > most:
            yield first, k
            first, frames = k, 0
        frames += length
    if frames:
        yield first, len(lengths)


def _video_info(feature: Feature, fps: int) -> JsonDict:
    height, width, channels = feature.shape
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
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
