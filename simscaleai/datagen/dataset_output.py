"""Write episodes that exist already to a new dataset: one file, or a folder of shards.

    output = DatasetOutput(Path("data/good"), shard_episodes=1000)
    output.check(["data/all"])                  # before anything is read
    output.write(episodes, NewDataset(...), show=True)

The tools that change datasets and the import from other formats write through this. The output appears whole
or not at all.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simscaleai.contract import EnvContract
from simscaleai.datagen.progress_bar import EpisodeCounts, ProgressBar
from simscaleai.datagen.shard_file import split_part, write_shard_file
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.atomic_folder import atomic_folder, check_free
from simscaleai.storage.env_args import env_args_text
from simscaleai.storage.episode import Episode, split_episodes
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.manifest import NAME, Manifest, write_manifest
from simscaleai.storage.shard_row import ShardRow, shard_name
from simscaleai.storage.split_masks import SPLITS

# attributes that are JSON text in a file, and values in a manifest
_JSON = ("recipe", "statistics")
_REMEDY = "and in a folder of shards all have the same; write one file, or repair the dataset"


@dataclass(frozen=True)
class NewDataset:
    """What is known of a dataset before its episodes are written.

    Attributes:
      lengths: steps of each episode, in order.
      contract: the environment that made the episodes; None if it is not known.
      splits: {mask: positions}; None for a random tenth for validation.
      env_id: the environment's name for Gymnasium; None for that of the contract.
      attributes: further attributes; "recipe" and "statistics" are JSON text.
    """

    lengths: Sequence[int]
    contract: EnvContract | None
    splits: Mapping[str, Sequence[int]] | None
    env_id: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetOutput:
    """A dataset to write.

    Attributes:
      path: of the file, or of the folder.
      shard_episodes: episodes of a shard; None writes one file.
      overwrite: replace an existing dataset.
    """

    path: Path
    shard_episodes: int | None = None
    overwrite: bool = False

    def check(self, sources: Sequence[str | Path] = ()) -> None:
        """Raise UserError if it must not be written: it exists, or it is one of `sources`."""
        # resolved: a link or a relative path may name the same file; --overwrite does not help here
        if self.path.exists() and any(self.path.resolve() == Path(p).resolve() for p in sources):
            raise UserError(f"{self.path} is the dataset itself; give another path for the output.")
        if self.shard_episodes is not None:
            if self.shard_episodes < 1:
                raise UserError(f"shard_episodes is {self.shard_episodes}; it is at least 1.")
            check_free(self.path, NAME, self.overwrite)
            return
        if self.path.is_dir():
            raise UserError(
                f"{self.path} is a folder; give the path of a file, or write a folder of shards with"
                " --shard-episodes 1000."
            )
        if self.path.exists() and not self.overwrite:
            raise ExistingFileError(
                f"{self.path} exists; choose another output or replace it with --overwrite."
            )

    def write(self, episodes: Iterable[Episode], about: NewDataset, *, show: bool) -> JsonDict:
        """Write all episodes.

        Returns:
          {"output_path", "file_size_mb", "content_hash"}, and "shards" of a folder.

        Raises:
          UserError: a folder of shards cannot hold them, or the disk is full.
        """
        with ProgressBar(len(about.lengths), show=show) as bar:
            bar.start()
            counted = _counted(episodes, bar)
            made = (
                self._write_file(counted, about)
                if self.shard_episodes is None
                else self._write_shards(counted, about, self.shard_episodes)
            )
        return {"output_path": str(self.path), **made}

    def _write_file(self, episodes: Iterator[Episode], about: NewDataset) -> JsonDict:
        with atomic_path(self.path) as temporary:
            writer = EpisodeWriter(
                temporary,
                about.contract,
                splits=about.splits,
                env_id=about.env_id,
                attributes=about.attributes,
            )
            with writer:
                writer.add_all(enumerate(episodes))
        size = self.path.stat().st_size
        return {"file_size_mb": size / 1e6, "content_hash": writer.content_hash}

    def _write_shards(
        self, episodes: Iterator[Episode], about: NewDataset, shard_episodes: int
    ) -> JsonDict:
        count = len(about.lengths)
        if not count:
            raise UserError(
                f"There are no episodes; a folder of shards {self.path} has at least one."
            )
        splits = split_episodes(count, 0, 0.1) if about.splits is None else about.splits
        check_splits(splits, count)
        first_episode = next(episodes)
        alike = _alike(itertools.chain([first_episode], episodes))
        with atomic_folder(self.path, marker=NAME, overwrite=self.overwrite) as folder:
            rows = list(_shards(folder, alike, about, splits, shard_episodes))
            contract, whole = about.contract, dict(about.attributes)
            whole |= {name: json.loads(whole[name]) for name in _JSON if name in whole}
            whole |= {
                "env_args": "{}" if contract is None else env_args_text(contract, about.env_id),
                "arrays": rows[0].arrays,
                "unknown": _unknown(first_episode),
                "shards": len(rows),
            }
            whole["content_hash"] = Manifest(rows, whole).content_hash()
            write_manifest(folder, Manifest(rows, whole))
            size = sum(path.stat().st_size for path in folder.iterdir())
        return {
            "file_size_mb": size / 1e6,
            "content_hash": whole["content_hash"],
            "shards": len(rows),
        }


def _shards(
    folder: Path,
    episodes: Iterator[Episode],
    about: NewDataset,
    splits: Mapping[str, Sequence[int]],
    shard_episodes: int,
) -> Iterator[ShardRow]:
    """Write the episodes shard by shard; yield the rows."""
    count = len(about.lengths)
    for number, first in enumerate(range(0, count, shard_episodes)):
        positions = range(first, min(first + shard_episodes, count))
        yield write_shard_file(
            folder / shard_name(number),
            enumerate(itertools.islice(episodes, len(positions))),
            about.contract,
            split_part(splits, positions),
            env_id=about.env_id,
            attributes=about.attributes,
            max_steps=max(about.lengths[i] for i in positions),
        )


def _counted(episodes: Iterable[Episode], bar: ProgressBar) -> Iterator[Episode]:
    for episode in episodes:
        yield episode
        bar.add(EpisodeCounts(1, int(episode.success), 1))


def check_splits(splits: Mapping[str, Sequence[int]], count: int) -> None:
    """Raise UserError for masks that a manifest cannot hold: it has one flag for each episode."""
    remedy = "split them anew with `simscale data split`, or write one file"
    if others := sorted(splits.keys() - set(SPLITS)):
        raise UserError(
            f"A folder of shards has no masks but {' and '.join(SPLITS)}, and these episodes have"
            f" {', '.join(others)}; {remedy}."
        )
    members = sorted(i for positions in splits.values() for i in positions)
    if members != list(range(count)):
        raise UserError(
            "In a folder of shards each episode is for training or for validation, and here some are for"
            f" both or for neither; {remedy}."
        )


def other_arrays(number: int, differing: Iterable[str]) -> UserError:
    """Return the error for an episode whose arrays are not those of the first one."""
    return UserError(
        f"Episode {number} has other arrays than the first ({', '.join(sorted(differing))}), {_REMEDY}."
    )


def _unknown(episode: Episode) -> list[str]:
    """Return what an episode does not record, of that which a manifest lists."""
    return [name for name in ("seed", "success") if name in episode.unknown]


def _alike(episodes: Iterable[Episode]) -> Iterator[Episode]:
    """Pass episodes on; UserError for one that differs from the first in what a manifest says of all."""
    first: Episode | None = None
    for number, episode in enumerate(episodes):
        first = first or episode
        if differing := set(_unknown(episode)) ^ set(_unknown(first)):
            raise UserError(
                f"Episode {number} differs from the first in recording {' and '.join(sorted(differing))},"
                f" {_REMEDY}."
            )
        if differing := episode.arrays().keys() ^ first.arrays().keys():
            raise other_arrays(number, differing)
        yield episode
