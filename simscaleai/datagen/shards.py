"""Finished episodes set aside in `<output>.parts/` until the dataset is complete.

A part is a file with a few hundred episodes, written under a temporary name, synced and renamed: it
is there whole or not at all. Each names the episodes it holds, so that a run that was killed, at
whatever time, makes those that are missing. `recipe.json` says what is being generated.

    reach.h5.parts/
      recipe.json    what decides the content; written first
      lock           held by the process that is generating
      <random>.npz   columns of all its episodes, concatenated, and `episodes` (JSON)
      dataset.h5     the complete dataset, for the moment before it is renamed to the output
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from simscaleai.errors import UserError
from simscaleai.guards import regular_file
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import SUFFIX, atomic_path, leftovers
from simscaleai.storage.episode import LABELS, NEXT_OBS, OBS, Episode
from simscaleai.storage.lock import FolderLock

# Whichever is reached first: a killed run loses the finished episodes of a few seconds at most.
SHARD_EPISODES = 256
SHARD_BYTES = 64 * 2**20
SHARD_SECONDS = 5.0
_COLUMNS = ("actions", "rewards", "dones", "states")


@dataclass(frozen=True)
class EpisodeSummary:
    """One finished episode as its shard lists it.

    Attributes:
      kept: whether the shard holds its arrays; not if the episode was not wanted.
      diverged: whether its physics became unstable; such an episode is never wanted.
    """

    index: int
    seed: int
    success: bool
    length: int
    reward: float
    language: str
    randomization: JsonDict
    kept: bool
    diverged: bool = False


class ShardFolder:
    """The folder of shards, `<output>.parts/`, of an output file that is being made."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(output.name + ".parts")
        self.dataset = self.path / "dataset.h5"
        self._recipe = self.path / "recipe.json"
        self._lock = FolderLock(self.path, "generating", str(output), file="lock")

    def exists(self) -> bool:
        return self.path.exists()

    def recipe(self) -> JsonDict | None:
        """Return the recipe that the shards were made for; None if it was not written yet."""
        try:
            recipe = json.loads(self._recipe.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self._recipe} is damaged; start again with --overwrite.") from error
        return recipe if isinstance(recipe, dict) else {}

    def open(self, recipe: JsonDict, *, keep: bool) -> None:
        """Lock the folder for a run of `recipe`; without `keep`, remove its files."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        for path in [*self.path.iterdir(), *leftovers(self.output)]:
            is_shard = path.suffix == ".npz" and not path.name.endswith(SUFFIX)
            if path.name != "lock" and not (keep and (is_shard or path == self._recipe)):
                path.unlink()
        self._drop_damaged()
        if not self._recipe.exists():
            with atomic_path(self._recipe) as temporary:
                temporary.write_text(json.dumps(recipe, indent=2, sort_keys=True))

    def _drop_damaged(self) -> None:
        """Delete shards that cannot be read, with a message; their episodes are then made again."""
        for shard in self.shards():
            try:
                # arrays too: a file that was cut short may have whole summaries
                for _ in read_shard(shard):
                    pass
            except UserError as error:
                shard.unlink()
                Console(stderr=True).print(f"{error} It was removed.", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Release the lock of the folder."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder and its files, unless another process has the lock."""
        if self.exists():
            self._lock.take()  # refuses while another process generates
            shutil.rmtree(self.path, ignore_errors=True)
        self.close()
        if os.name != "posix":  # where the open file of the lock was in the way
            shutil.rmtree(self.path, ignore_errors=True)

    def shards(self) -> list[Path]:
        return sorted(self.path.glob("*.npz"))

    def episodes(self, wanted: Collection[int]) -> Iterator[Episode]:
        """Yield the episodes with the indices `wanted`, each once, shard by shard."""
        waiting = set(wanted)  # two shards may hold the same episode
        for shard in self.shards():
            for episode in read_shard(shard):
                if episode.index in waiting:
                    waiting.remove(episode.index)
                    yield episode
        assert not waiting


class ShardWriter:
    """Collects finished episodes and writes them to shards; `keep` decides whose arrays are stored."""

    def __init__(
        self, folder: Path, keep: Callable[[Episode], bool] = lambda episode: True
    ) -> None:
        self._folder, self._keep = folder, keep
        self._episodes: list[Episode] = []
        self._bytes = 0
        self._since = time.monotonic()

    def add(self, episode: Episode) -> None:
        """Add an episode; a shard is written when there are many, or the last one was a while ago."""
        self._episodes.append(episode)
        self._bytes += sum(value.nbytes for value in episode.arrays().values())
        if (
            len(self._episodes) >= SHARD_EPISODES
            or self._bytes >= SHARD_BYTES
            or time.monotonic() - self._since >= SHARD_SECONDS
        ):
            self.flush()

    def flush(self) -> None:
        """Write a shard of the episodes collected so far."""
        if self._episodes:
            write_shard(self._folder, self._episodes, [self._keep(e) for e in self._episodes])
        self._episodes, self._bytes, self._since = [], 0, time.monotonic()


def write_shard(folder: Path, episodes: Sequence[Episode], keep: Sequence[bool]) -> None:
    """Write `episodes` to one shard; of those with `keep` False only the summary is stored."""
    summaries = [
        EpisodeSummary(
            index=e.index,
            seed=e.seed,
            success=e.success,
            length=len(e),
            reward=float(np.sum(e.rewards, dtype=np.float64)),
            language=e.language,
            randomization=e.randomization,
            kept=kept,
            diverged=e.diverged,
        )
        for e, kept in zip(episodes, keep, strict=True)
    ]
    columns: JsonDict = {"episodes": np.array(json.dumps([vars(f) for f in summaries]))}
    wanted = [e.arrays() for e, kept in zip(episodes, keep, strict=True) if kept]
    if wanted:
        # one column for all episodes: each entry of a zip file has a cost of its own
        columns |= {key: np.concatenate([a[key] for a in wanted]) for key in wanted[0]}
    # No temporary name ends in .npz, so that half a shard never looks like a shard.
    with (
        atomic_path(folder / f"{secrets.token_hex(8)}.npz") as temporary,
        open(temporary, "wb") as f,
    ):
        np.savez(f, **columns)
        f.flush()
        os.fsync(f.fileno())


def read_summaries(shard: Path) -> list[EpisodeSummary]:
    """Return the summaries of the episodes of a shard."""
    with _open(shard) as columns:
        return _finished(columns)


def read_shard(shard: Path) -> Iterator[Episode]:
    """Yield the episodes whose arrays a shard holds."""
    with _open(shard) as columns:
        summaries = _finished(columns)
        arrays = {key: columns[key] for key in columns.files if key != "episodes"}
        steps = sum(summary.length for summary in summaries if summary.kept)
        lengths = {key: len(arrays[key]) for key in (*arrays, *_COLUMNS)} if steps else {}
        if any(length != steps for length in lengths.values()):
            raise ValueError(f"columns have {lengths} steps and not {steps}")
    stop = 0
    for summary in summaries:
        if not summary.kept:
            continue
        start, stop = stop, stop + summary.length
        cut = {key: value[start:stop] for key, value in arrays.items()}
        yield Episode(
            obs={k.removeprefix(OBS): v for k, v in cut.items() if k.startswith(OBS)},
            next_obs={
                k.removeprefix(NEXT_OBS): v for k, v in cut.items() if k.startswith(NEXT_OBS)
            },
            **{key: cut[key] for key in _COLUMNS},
            actions_by_instruction=cut.get(LABELS),
            index=summary.index,
            seed=summary.seed,
            success=summary.success,
            language=summary.language,
            randomization=summary.randomization,
        )


def _finished(columns: Any) -> list[EpisodeSummary]:
    summaries = [EpisodeSummary(**values) for values in json.loads(str(columns["episodes"]))]
    numbers = [n for f in summaries for n in (f.index, f.seed, f.length)]
    if any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("an episode has a number that cannot be")
    return summaries


@contextmanager
def _open(shard: Path) -> Iterator[Any]:
    """Open the columns of a shard; raise UserError for any failure in the block."""
    try:
        with np.load(regular_file(shard, "shard"), allow_pickle=False) as columns:
            yield columns
    except UserError:
        raise
    except Exception as error:  # as in `guards.guarded`
        raise UserError(
            f"{shard} is damaged or of another version; --resume makes its episodes again."
        ) from error
