"""The videos of a LeRobot folder: some episodes of one camera in each file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import OBS
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.checked_parquet import MIB
from simscaleai.storage.lerobot.layout import Feature
from simscaleai.storage.lerobot.lerobot_columns import LeRobotColumns
from simscaleai.storage.video import write_video

_VIDEO_RATIO = 20  # of raw and encoded bytes, at least; it decides when a new video is begun
_KEYFRAME = 2  # frames between two keyframes, as LeRobot's: a sample reads single frames


def write_camera(
    folder: Path,
    data: EpisodeSource,
    episodes: Sequence[int],
    columns: LeRobotColumns,
    feature: str,
    fps: int,
) -> Iterator[JsonDict]:
    """Write the videos of one camera; yield the place of each episode."""
    key = OBS + columns.images[feature][0]
    raw_bytes = math.prod(columns.features[feature].shape)
    most = max(1, layout.VIDEO_MB * MIB * _VIDEO_RATIO // raw_bytes)  # frames of a file
    lengths = [data.episodes[i].length for i in episodes]
    # the size of a file is known only when it is written, so the cut is by frames, from the ratio
    for number, (first, last) in enumerate(_groups(lengths, most)):
        place = layout.place(number)
        path = folder / layout.VIDEO.format(video_key=feature, **place)
        write_video(path, _frames(data, episodes[first:last], key), fps, _KEYFRAME)
        stops = np.cumsum(lengths[first:last])  # (episodes of the file,) in frames
        for stop, length in zip(stops.tolist(), lengths[first:last], strict=True):
            seconds = {
                "from_timestamp": (stop - length) / fps,
                "to_timestamp": stop / fps,
            }
            yield place | seconds


def _frames(data: EpisodeSource, episodes: Sequence[int], key: str) -> Iterator[NDArray[np.uint8]]:
    for i in episodes:
        yield from data.read(i, key)  # (H, W, 3) each; one episode is in memory at a time


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


def video_info(feature: Feature, fps: int) -> JsonDict:
    """Return what info.json says of the videos of a camera."""
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
