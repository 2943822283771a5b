"""Files and features of a LeRobot dataset, version 3.0.

Names, templates and limits of sizes are those of `lerobot.datasets.utils` (lerobot 0.4 to 0.6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simscaleai.array_types import Array
from simscaleai.json_types import JsonDict
from simscaleai.observations import MAX_RANK

if TYPE_CHECKING:  # pyarrow is imported when a file is read or written
    import pyarrow as pa

VERSION = "v3.0"
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
OWN = "meta/simscale.parquet"
OWN_KEY, OWN_VERSION = b"simscaleai", 1  # of the JSON in the metadata of its schema
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CHUNK_FILES = 1000  # files in a folder `chunk-...`
DATA_MB, VIDEO_MB = 100, 200  # at which a new file is begun

STATE = "observation.state"
IMAGES = "observation.images."
ACTION, REWARD, DONE = "action", "next.reward", "next.done"
SUBTASKS, EVENTS = "language_persistent", "language_events"
PRIVATE = "simscale."
"""Prefix of arrays that LeRobot has no name for; its policies do not read them."""


def is_lerobot(path: str | Path) -> bool:
    """Return whether a path looks like the folder of a LeRobot dataset, of any version."""
    return (Path(path) / INFO).is_file()


DEFAULT_FEATURES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns of every data file; `index` counts the frames of all episodes."""

IMAGE_DTYPES = ("image", "video")
_NUMBERS = {"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_NUMBERS |= {"float16", "float32", "float64"}
_OTHERS = {*IMAGE_DTYPES, "string", "language"}
MAX_STEP_BYTES = 256 * 2**20  # of one feature in one frame


@dataclass(frozen=True)
class Feature:
    """One column of the data, or one camera.

    Attributes:
      dtype: NumPy name of a number, "image", "video", "string" or "language".
      shape: of one frame; images are (H, W, C).
      names: of the entries or axes; None without.
      info: further values, such as those of a video.
    """

    dtype: str
    shape: tuple[int, ...]
    names: list[str] | None = None
    info: JsonDict = field(default_factory=dict)

    @property
    def is_image(self) -> bool:
        return self.dtype in IMAGE_DTYPES

    @property
    def is_number(self) -> bool:
        return self.dtype in _NUMBERS

    def to_dict(self) -> JsonDict:
        """Return the entry of `features` in info.json."""
        own = {"dtype": self.dtype, "shape": list(self.shape), "names": self.names}
        return own | ({"info": self.info} if self.info else {})

    @classmethod
    def from_dict(cls, values: JsonDict) -> Feature:
        """Return the inverse of `to_dict`; ValueError for what no feature can be.

        Names may be a list, or nested in a mapping by their group, as some datasets have them.
        """
        dtype, shape = values["dtype"], values["shape"]
        if dtype not in _NUMBERS | _OTHERS:
            raise ValueError(f"the dtype {dtype!r}")
        if not isinstance(shape, list) or len(shape) > MAX_RANK:
            raise ValueError(f"the shape {shape!r}")
        if any(type(n) is not int or not 0 < n < 2**31 for n in shape):
            raise ValueError(f"the shape {shape!r}")
        if math.prod(shape) * 8 > MAX_STEP_BYTES:
            raise ValueError(
                f"the shape {shape!r}, more than {MAX_STEP_BYTES // 2**20} MiB a frame"
            )
        names = values.get("names")
        if isinstance(names, dict) and len(names) == 1:
            names = next(iter(names.values()))
        known = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return cls(dtype, tuple(shape), names if known else None)


def default_features() -> dict[str, Feature]:
    return {name: Feature(dtype, (1,)) for name, dtype in DEFAULT_FEATURES.items()}


def place(number: int) -> dict[str, int]:
    """Return the chunk and the file of the `number`-th file of a kind."""
    return {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}


def to_arrow(values: Array) -> pa.Array:
    """Return numbers (T, ...) as a column: scalars, lists of fixed size, or nested lists."""
    import pyarrow as pa

    shape = list(values.shape[1:])
    column = pa.array(values.reshape(-1))
    if shape == [1]:
        return column
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(column, shape[0])
    # `datasets` stores matrices as lists of any length
    for size in reversed(shape):
        offsets = pa.array(np.arange(0, len(column) + 1, size, dtype=np.int32))
        column = pa.ListArray.from_arrays(offsets, column)
    return column


def from_arrow(column: pa.ChunkedArray, feature: Feature) -> Array:
    """Return a column as (T, *shape); ValueError where it holds anything else."""
    import pyarrow as pa

    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # one without chunks stays one
        values = pa.concat_arrays(values.chunks or [pa.array([], values.type)])
    while pa.types.is_nested(values.type):
        if not hasattr(values, "flatten") or pa.types.is_struct(values.type):
            raise ValueError(f"a column of {values.type}")
        values = values.flatten()
    if values.null_count:
        raise ValueError("a column with missing values")
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype != np.dtype(feature.dtype):
        raise ValueError(f"a column of {numbers.dtype}, and info.json says {feature.dtype}")
    if numbers.size != len(column) * math.prod(feature.shape):
        raise ValueError(f"a column whose frames are not {list(feature.shape)}")
    return numbers.reshape(len(column), *feature.shape)
