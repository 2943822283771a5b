"""What a LeRobot folder says of itself, before its frames are read.

A folder is untrusted: no path leads out of it, only LeRobot's own file names are used, sizes are compared
with those of the files before they are allocated, and a child process parses a small file first (`vetting`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simscaleai.errors import MissingFileError, UserError
from simscaleai.guards import guarded, regular_file
from simscaleai.json_types import JsonDict
from simscaleai.storage.env_args import parse_env_args
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.checked_parquet import MIB, check_size, open_parquet, read_metadata
from simscaleai.storage.lerobot.folder_episode import FolderEpisode, OwnTable
from simscaleai.storage.lerobot.layout import Feature
from simscaleai.storage.lerobot.lerobot_columns import LeRobotColumns
from simscaleai.storage.vetting import vet_with

if TYPE_CHECKING:
    import pyarrow as pa

REMEDY = "download or export the dataset again"
_MAX_JSON = 64 * 2**20
_MAX_TABLE = 2**30  # bytes of a table in meta/


class LeRobotFolder:
    """An opened folder.

    Args:
      path: the folder with `meta/info.json`.

    Attributes:
      path: of the folder.
      fps: frames per second.
      robot_type: as recorded; "" if it is not.
      features: {name: feature}.
      episodes: in order.
      own: what our own export adds; None in a folder of another program, and where LeRobot's tools have
        changed the episodes since.

    Raises:
      UserError: it is no such folder, of another version, damaged or refused.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / layout.INFO).exists():
            raise MissingFileError(
                f"{self.path} is no LeRobot dataset: it has no {layout.INFO}; name the folder that has it."
            )
        with guarded(f"{self.path / layout.INFO}", REMEDY):
            self._read_info(json.loads(self._text(layout.INFO)))
        with guarded(f"The episodes of {self.path}", REMEDY):
            self.episodes = self._read_episodes()
        with guarded(f"{self.path / layout.OWN}", f"delete that file, or {REMEDY}"):
            self.own = self._read_own()

    def file(self, name: str) -> Path:
        """Return the path of a file of the folder.

        A symbolic link may stay within the folder, or lead to the cache of the Hugging Face Hub that the
        folder is a snapshot of.

        Raises:
          UserError: it is missing, no plain file, or outside.
        """
        path = self.path / name
        if not regular_file(path, "part of a dataset").exists():
            raise MissingFileError(f"{self.path} lacks {name}; {REMEDY}.")
        root = self.path.resolve()
        allowed = [root]
        if root.parent.name == "snapshots":
            # the cache keeps files there, under their hashes, and links to them from each snapshot
            allowed.append(root.parent.parent / "blobs")
        if not any(path.resolve().is_relative_to(folder) for folder in allowed):
            raise UserError(f"{path} is a link out of the dataset; it is refused.")
        return path

    @property
    def columns(self) -> LeRobotColumns:
        """Which arrays of an episode the features hold."""
        return LeRobotColumns.foreign(self.features) if self.own is None else self.own.columns

    def _text(self, name: str) -> str:
        path = self.file(name)
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f"it has more than {_MAX_JSON // MIB} MiB")
        return path.read_text("utf-8")

    def _read_info(self, info: object) -> None:
        if not isinstance(info, dict):
            raise ValueError("it is no JSON object")
        version = str(info.get("codebase_version"))
        # a minor version is not refused: what it has changed fails a check below
        if version.split(".")[0] != layout.VERSION.split(".")[0]:
            raise UserError(
                f"{self.path} is a LeRobot dataset of version {version}, and version 3 is read; convert it"
                " with `python -m lerobot.scripts.convert_dataset_v21_to_v30`."
            )
        # the templates are format strings of a stranger, and could name any path
        if info["data_path"] != layout.DATA or info.get("video_path") not in (None, layout.VIDEO):
            raise ValueError("its files have other names than LeRobot's own")
        self.features = {str(k): Feature.from_dict(v) for k, v in info["features"].items()}
        for name, feature in self.features.items():
            # the names become parts of paths
            if "/" in name or "\\" in name or name.startswith(".") or "\0" in name:
                raise ValueError(f"a feature has the name {name!r}")
            if feature.is_image and (len(feature.shape) != 3 or feature.shape[2] not in (1, 3, 4)):
                raise ValueError(f"{name} has the shape {list(feature.shape)}; expected H, W, C")
        self._fps = info["fps"]
        if not isinstance(self._fps, int | float) or not 0 < self._fps < 1e5:
            raise ValueError(f"fps is {self._fps!r}")
        self.robot_type = str(info.get("robot_type") or "")
        action = self.features.get(layout.ACTION)
        if action is None or not action.is_number or len(action.shape) != 1:
            raise ValueError("it has no feature `action` that is a vector of numbers")

    @property
    def fps(self) -> float:
        return float(self._fps)

    def _read_episodes(self) -> list[FolderEpisode]:
        cameras = [name for name, f in self.features.items() if f.dtype == "video"]
        wanted = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
        wanted += [
            f"videos/{camera}/{name}"
            for camera in cameras
            for name in ("chunk_index", "file_index", "from_timestamp")
        ]
        lines: list[JsonDict] = []
        for name in self._episode_files():
            lines += self._table(name, wanted).to_pylist()
        if not lines:
            raise ValueError("there are none")
        # files are sorted by name, which need not be the order of their episodes
        lines.sort(key=lambda line: int(line["episode_index"]))
        if [line["episode_index"] for line in lines] != list(range(len(lines))):
            raise ValueError("their numbers are not 0, 1, 2, ...")
        return [self._episode(line, cameras) for line in lines]

    def _episode(self, line: JsonDict, cameras: Sequence[str]) -> FolderEpisode:
        length, tasks = int(line["length"]), line["tasks"] or [""]
        if not 0 < length < 2**31:
            raise ValueError(f"one has {length} frames")

        def place(prefix: str) -> tuple[int, int]:
            chunk, file = (int(line[f"{prefix}/{name}_index"]) for name in ("chunk", "file"))
            if not (0 <= chunk < 10**6 and 0 <= file < 10**6):
                raise ValueError("one is in a file that cannot be")
            return chunk, file

        videos = {}
        for camera in cameras:
            # a time in seconds; rounded, since k / fps * fps may miss k by the last bit
            first = round(float(line[f"videos/{camera}/from_timestamp"]) * self.fps)
            if not 0 <= first < 2**40:
                raise ValueError("one begins before its video")
            videos[camera] = (*place(f"videos/{camera}"), first)
        return FolderEpisode(length, str(tasks[0]), place("data"), videos)

    def _episode_files(self) -> list[str]:
        """Return the names of the files of meta/episodes, in order."""
        top = self.path / "meta" / "episodes"
        paths = sorted(top.glob("chunk-*/file-*.parquet"))
        return [str(path.relative_to(self.path)) for path in paths]

    def _read_own(self) -> OwnTable | None:
        """Return our own table if it is that of these episodes."""
        if not (self.path / layout.OWN).exists():
            return None
        table = self._table(layout.OWN)
        about = json.loads((table.schema.metadata or {})[layout.OWN_KEY])
        if about["version"] != layout.OWN_VERSION:
            raise ValueError("another version wrote it")
        lines = table.to_pylist()
        # LeRobot's tools delete and merge episodes and leave our table as it was
        if [int(line["length"]) for line in lines] != [e.length for e in self.episodes]:
            return None
        args = str(about["env_args"])
        # checked now: the reader parses it again when the folder is known to be whole
        parse_env_args(args)
        columns = LeRobotColumns.from_dict(about["columns"], self.features)
        masks = [str(name) for name in about["masks"]]
        return OwnTable(lines, masks, args, columns)

    def _table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return a table of meta/; ValueError if it is larger than a file of its size can be."""
        path = self.file(name)

        def read() -> pa.Table:
            file = open_parquet(path)
            check_size(file.metadata, path.stat().st_size, _MAX_TABLE)
            missing = set(columns or ()) - set(file.schema_arrow.names)
            if missing:
                raise ValueError(f"{name} has no column {min(missing)!r}")
            return file.read(columns=columns, use_threads=False)

        # the footer alone first, for an error of this process that says what is wrong
        read_metadata(path)
        vet_with(path, read)
        return read()
