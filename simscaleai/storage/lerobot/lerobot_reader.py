"""Read the episodes of a LeRobot folder, ours or that of another program.

    folder = LeRobotFolder("data/lerobot")
    for episode in LeRobotReader(folder).episodes():
        ...

An episode is read whole, one at a time. What the folder does not say stays unknown: seeds, success and
physics states of other programs. An instruction is the first task of an episode.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simscaleai.array_types import Array, ArrayDict
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.json_types import JsonDict
from simscaleai.storage.env_args import parse_env_args
from simscaleai.storage.episode import LABELS, OBS, Episode
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.checked_parquet import check_size, open_parquet, vet_data
from simscaleai.storage.lerobot.folder_episode import FolderEpisode
from simscaleai.storage.lerobot.frame_images import decode_images
from simscaleai.storage.lerobot.layout import Feature, from_arrow
from simscaleai.storage.lerobot.lerobot_folder import REMEDY, LeRobotFolder
from simscaleai.storage.lerobot.lerobot_video import VideoFrames

if TYPE_CHECKING:
    import pyarrow as pa

MAX_EPISODE_BYTES = 4 * 2**30  # of an episode in memory


class LeRobotReader:
    """Reads the episodes of an opened folder.

    Attributes:
      contract: the environment that made them; None if the folder does not say.
      env_id: its name for Gymnasium; None without a contract.
      splits: {mask: positions}; None if the folder does not say.
    """

    def __init__(self, folder: LeRobotFolder) -> None:
        self._folder, self._columns = folder, folder.columns
        self.contract: EnvContract | None = None
        self.env_id: str | None = None
        self.splits: dict[str, list[int]] | None = None
        if folder.own is not None:
            with guarded(f"{folder.path / layout.OWN}", f"delete that file, or {REMEDY}"):
                self._read_own(folder.own.env_args, folder.own.lines, folder.own.masks)

    def _read_own(self, env_args: str, lines: list[JsonDict], masks: list[str]) -> None:
        args = parse_env_args(env_args)
        if isinstance(args.get("contract"), dict):
            self.contract = EnvContract.from_dict(args["contract"])
            self.env_id = str(args["env_name"])
        if masks:
            self.splits = {
                name: [i for i, line in enumerate(lines) if name in line["masks"]] for name in masks
            }

    def episodes(self) -> Iterator[Episode]:
        """Yield all episodes, in order."""
        folder = self._folder
        videos = {
            name: VideoFrames(folder, name, feature.shape)
            for name, feature in folder.features.items()
            if feature.dtype == "video" and name in self._columns.images
        }
        tables = _EpisodeTables(folder, self._stored())
        try:
            for i, about in enumerate(folder.episodes):
                with guarded(f"Episode {i} of {folder.path}", REMEDY):
                    table = tables.read(i, about)
                    columns: ArrayDict = {
                        name: _decode(table[name], feature)
                        for name, feature in self._stored().items()
                    }
                    # a video is read forward through all episodes, so its decoder starts once for each file
                    columns |= {
                        k: v.read(*about.videos[k], about.length) for k, v in videos.items()
                    }
                    episode = self._episode(i, about, columns)
                yield episode
        finally:
            for video in videos.values():
                video.close()

    def _stored(self) -> dict[str, Feature]:
        """Return the features whose values the data files hold and that are read."""
        columns = self._columns
        wanted = {*columns.images, *columns.arrays, *([layout.STATE] if columns.state else [])}
        features = self._folder.features
        return {k: features[k] for k in features if k in wanted and features[k].dtype != "video"}

    def _episode(self, i: int, about: FolderEpisode, columns: ArrayDict) -> Episode:
        arrays = self._columns.split(columns)
        obs = {k.removeprefix(OBS): v for k, v in arrays.items() if k.startswith(OBS)}
        steps = about.length
        own = self._folder.own
        line = own.lines[i] if own is not None else {}
        unknown = tuple(name for name in ("seed", "success") if line.get(name) is None)

        def text(name: str) -> str:
            return str(line.get(name) or "")

        return Episode(
            obs=self._as_recorded(obs),
            actions=arrays["actions"].astype(np.float32, copy=False),
            rewards=_vector(arrays.get("rewards", np.zeros(steps)), np.float32),
            # without flags the last step ends the episode
            dones=_vector(arrays.get("dones", np.arange(steps) == steps - 1), bool),
            states=arrays.get("states"),
            actions_by_instruction=arrays.get(LABELS),
            index=i,
            seed=int(line.get("seed") or 0),
            success=bool(line.get("success")),
            language=str(line.get("language", about.task)),
            randomization=json.loads(line.get("randomization") or "{}"),
            policy=text("policy"),
            mujoco_version=text("mujoco_version"),
            model_sha256=text("model_sha256"),
            unknown=unknown,
        )

    def _as_recorded(self, obs: ArrayDict) -> ArrayDict:
        """Return observations with the dtypes of the contract; vectors without one are float32."""
        dtypes = {} if self.contract is None else self.contract.obs_dtypes
        found = {}
        for key, value in obs.items():
            if key in dtypes:
                value = value.astype(dtypes[key], copy=False)
            elif value.dtype.kind != "f" and value.ndim < 3:
                value = value.astype(np.float32)  # models read vectors of floats
            found[key] = value
        return found


class _EpisodeTables:
    """Reads the frames of one episode after the other; frames of a file are in the order of episodes."""

    def __init__(self, folder: LeRobotFolder, features: dict[str, Feature]) -> None:
        self._folder, self._features = folder, features
        self._place = -1, -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def read(self, number: int, about: FolderEpisode) -> pa.Table:
        """Return the frames of an episode; ValueError if they are not where the folder says."""
        import pyarrow as pa

        # 8 bytes a number, the most that any dtype of LeRobot takes
        sizes = (math.prod(f.shape) * 8 for f in self._features.values())
        if about.length * sum(sizes) > MAX_EPISODE_BYTES:
            raise ValueError(f"it takes more than {MAX_EPISODE_BYTES // 2**30} GiB of memory")
        if about.data != self._place:
            self._place, self._rest = about.data, None
            self._batches = self._open(about.data)
        parts: list[pa.RecordBatch] = []
        missing = about.length
        while missing:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise ValueError(f"{missing} of its frames are missing")
            parts.append(batch.slice(0, missing))
            missing -= parts[-1].num_rows
            # a batch ends after a number of frames, and may reach into the next episode
            self._rest = batch.slice(parts[-1].num_rows) if len(parts[-1]) < len(batch) else None
        table = pa.Table.from_batches(parts)
        # frames of another episode would be silent nonsense; both counters must be what they should be
        for name, expected in (
            ("episode_index", np.full(about.length, number)),
            ("frame_index", np.arange(about.length)),
        ):
            found = from_arrow(table[name], Feature("int64", (1,)))[:, 0]
            if not np.array_equal(found, expected):
                raise ValueError(f"its {name} is not what meta/episodes says")
        return table

    def _open(self, place: tuple[int, int]) -> Iterator[pa.RecordBatch]:
        chunk, number = place
        path = self._folder.file(layout.DATA.format(chunk_index=chunk, file_index=number))
        return self._read(path)

    def _read(self, path: Path) -> Iterator[pa.RecordBatch]:
        file = open_parquet(path)
        check_size(file.metadata, path.stat().st_size)
        wanted = [*self._features, "episode_index", "frame_index"]
        if missing := sorted(set(wanted) - set(file.schema_arrow.names)):
            raise ValueError(f"{path.name} has no column {missing[0]!r}")
        vet_data(path)
        # small batches: images are in them
        yield from file.iter_batches(batch_size=256, columns=wanted, use_threads=False)


def _decode(column: pa.ChunkedArray, feature: Feature) -> Array:
    """Return a column of a data file as (T, *shape)."""
    return decode_images(column, feature.shape) if feature.is_image else from_arrow(column, feature)


def _vector(values: Array, dtype: type) -> Array:
    """Return (T,) or (T, 1) values as (T,)."""
    if values.size != len(values):
        raise UserError(
            f"A reward or a done flag has the shape {values.shape[1:]}; expected a number."
        )
    return values.reshape(-1).astype(dtype)
