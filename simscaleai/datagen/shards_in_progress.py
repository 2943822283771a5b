"""The folder of a dataset that is being made: what is there, what may be deleted, and its manifest."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console

from simscaleai.datagen.recipe import differences
from simscaleai.datagen.shard_file import read_row
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.datagen.unfinished import Interrupted
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.json_types import JsonDict
from simscaleai.sim.factory import gym_id
from simscaleai.storage.atomic import SUFFIX
from simscaleai.storage.disk import CannotWriteError
from simscaleai.storage.env_args import env_args_text
from simscaleai.storage.manifest import NAME, Manifest, read_manifest, write_manifest
from simscaleai.storage.shard_row import ShardRow, shard_number

_UPDATE_SECONDS = 10.0
_UPDATE_SHARE = 20  # a manifest that takes t seconds to write is written every 20 t at most
_LOCK = ".simscale.lock"


class ShardsInProgress:
    """The folder of a dataset that is being made.

    Attributes:
      rows: {number of a shard: its row} of those that are there.
    """

    def __init__(self, task: ShardTask) -> None:
        self.task, self.folder = task, task.folder
        self.rows: dict[int, ShardRow] = {}
        contract = task.contract
        self._settings = {"shard_episodes": task.shard_episodes, **task.settings}
        self._about: JsonDict = {
            "env_args": env_args_text(contract, gym_id(contract.env_name)),
            "arrays": {},
            "recipe": self._settings,
            "shards": task.count,
        }
        self._written, self._write_seconds = -math.inf, 0.0

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Raise UserError if the dataset cannot be written here; nothing has been touched."""
        folder = self.folder
        if not folder.exists():
            return
        if not folder.is_dir():
            raise UserError(
                f"{folder} is a file, and --shard-episodes writes a folder; choose another --output."
            )
        # --overwrite deletes shards: in a folder of other files, a wrong path would lose them
        others = sorted(p.name for p in folder.iterdir() if not _ours(p.name))
        if others:
            raise UserError(
                f"{folder} holds other things ({', '.join(others[:3])}); name a new folder for the shards."
            )
        if any(p.name != _LOCK for p in folder.iterdir()) and not (resume or overwrite):
            raise ExistingFileError(
                f"{folder} holds a dataset; choose another output, finish it with --resume or replace it with"
                " --overwrite."
            )

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Find out which shards are there; remove what is not to be kept."""
        if resume and (self.folder / NAME).exists():
            found = read_manifest(self.folder, digests=True)
            different = differences(found.about.get("recipe") or {}, self._settings)
            if not different:
                self._about["arrays"] = found.about.get("arrays") or {}
                self._keep(found)
                return
            if not overwrite:
                raise UserError(
                    f"{self.folder} was made with other settings ({'; '.join(different)}); give the same ones"
                    " or start again with --overwrite."
                )
        elif resume and not overwrite and any(map(shard_number, self._names())):
            raise UserError(
                f"{self.folder} holds shards without {NAME}, which says how they were made; start again with"
                " --overwrite."
            )
        for name in [NAME, *self._names()]:  # the manifest first: it must not list what is gone
            if name != _LOCK:
                (self.folder / name).unlink(missing_ok=True)

    def _keep(self, found: Manifest) -> None:
        """Take over the shards that are whole; delete half ones and temporary files."""
        listed = {shard_number(row.shard): row for row in found.rows}
        for name in self._names():
            path, number = self.folder / name, shard_number(name)
            if number is None:
                if name.endswith(SUFFIX):
                    path.unlink(missing_ok=True)
                continue
            row = listed.get(number)
            try:
                if row is None:  # it arrived after the manifest was written
                    row = read_row(path, self.task.recipe_text)
                    if len(row.lengths) != len(self.task.indices(number)):
                        raise UserError(f"{path} belongs to another dataset.")
                elif path.stat().st_size != row.nbytes:
                    raise UserError(f"{path} is cut short or was changed.")
                self.rows[number] = row
            except UserError as error:
                path.unlink()
                message = f"{error} It was removed and is made again."
                Console(stderr=True).print(message, markup=False, soft_wrap=True)

    def add(self, row: ShardRow) -> None:
        """Note a shard that has arrived, and write the manifest if the last time was a while ago."""
        number = shard_number(row.shard)
        assert number is not None
        self.rows[number] = row
        if time.monotonic() - self._written > max(
            _UPDATE_SECONDS, _UPDATE_SHARE * self._write_seconds
        ):
            self.write()

    def write(self) -> None:
        """Write the manifest of the shards that are there."""
        began = time.monotonic()
        ordered = [self.rows[number] for number in sorted(self.rows)]
        arrays = next((row.arrays for row in ordered if row.arrays), {})
        self._about["arrays"] = arrays or self._about["arrays"]
        write_manifest(self.folder, Manifest(ordered, self._about))
        self._written = time.monotonic()
        self._write_seconds = self._written - began

    def finish(self) -> JsonDict:
        """Write the manifest of the complete dataset; return its statistics."""
        # a manifest that lists what is not there would make the dataset unreadable
        gone = [row.shard for row in self.rows.values() if not (self.folder / row.shard).exists()]
        if gone:
            for name in gone:
                del self.rows[shard_number(name) or 0]
            raise UserError(
                f"{self.folder / gone[0]} and {len(gone) - 1} other shards have vanished from the folder; run"
                " the same command with --resume."
            )
        rows = [self.rows[number] for number in sorted(self.rows)]
        own = _statistics(rows)
        # again at the end: what is counted stands above what a source says of itself
        statistics = {**own, **self.task.statistics(rows), **own}
        content_hash = Manifest(rows, self._about).content_hash()
        self._about |= {"statistics": statistics, "content_hash": content_hash}
        self.write()
        nbytes = sum(row.nbytes for row in rows) + (self.folder / NAME).stat().st_size
        return {**statistics, "content_hash": content_hash, "file_size_mb": nbytes / 1e6}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """After an error write the manifest of what is there, and say how many shards are kept."""
        try:
            yield
        except (KeyboardInterrupt, UserError) as error:
            if not self.rows:
                (self.folder / NAME).unlink(missing_ok=True)
            elif self.folder.is_dir():
                with suppress(UserError):  # of the same full disk: --resume finds the shards
                    self.write()
            found = (
                f"{len(self.rows)} of {self.task.count} shards are kept in {self.folder}; run the same"
                " command with --resume to finish it."
                if self.rows
                else "No shard was finished yet; run the same command again."
            )
            if isinstance(error, CannotWriteError):
                raise error.with_sentence(found) from error
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(f"Stopped: {found}") from None
            raise
        except Exception:  # a defect, perhaps in a task of the user's
            if not self.rows:  # nothing shall be in the way of the next try
                (self.folder / NAME).unlink(missing_ok=True)
            raise

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def _ours(name: str) -> bool:
    """Return whether a run may have put a file of this name into the folder."""
    parts = name.removeprefix(".").split(".")
    temporary = name.endswith(SUFFIX) and ".".join(parts[:2]) in (NAME, *_shard_of(parts))
    return name in (NAME, _LOCK) or shard_number(name) is not None or temporary


def _shard_of(parts: Sequence[str]) -> list[str]:
    name = ".".join(parts[:2])
    return [name] if shard_number(name) is not None else []


def _statistics(rows: Sequence[ShardRow]) -> JsonDict:
    """Return statistics of all episodes."""
    count = sum(len(row.lengths) for row in rows)
    steps = sum(int(row.lengths.sum()) for row in rows)
    valid = sum(int(row.valid.sum()) for row in rows)
    return {
        "total_episodes": count,
        "total_steps": steps,
        "mean_episode_length": steps / count,
        "mean_reward": math.fsum(row.reward for row in rows) / count,
        "success_rate": sum(int(row.successes.sum()) for row in rows) / count,
        "train_episodes": count - valid,
        "valid_episodes": valid,
        "shards": len(rows),
    }
