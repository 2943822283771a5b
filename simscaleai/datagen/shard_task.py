"""Make the shards of a dataset one by one: run or draw, encode, write, sync, rename.

    row = task(7)          # writes data/big/shard-00007.h5, whole or not at all

Shard j holds the episodes [j * m, (j + 1) * m). It is a function of the task and j alone, so that any
process on any machine that sees the folder may make it, at any time and more than once. Frames never
travel: what comes back is the shard's row of the manifest.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from simscaleai.contract import EnvContract
from simscaleai.datagen.shard_file import COUNTS, write_shard_file
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.rollout.registered import Registered
from simscaleai.sim.factory import gym_id
from simscaleai.storage.episode import Episode
from simscaleai.storage.shard_row import ShardRow, shard_name


@dataclass(frozen=True)
class ShardTask(ABC):
    """Everything that the shards of a dataset are made from; it travels to workers.

    Attributes:
      folder: of the dataset, an absolute path.
      shard_episodes: episodes of a shard; the last one may have fewer.
      registered: what the caller has registered and a worker needs.
      verb: what a run does, for "Another process is ...".
    """

    folder: Path
    shard_episodes: int
    registered: Registered
    verb: ClassVar[str]

    @property
    @abstractmethod
    def n_episodes(self) -> int:
        """Number of episodes of the dataset."""

    @property
    @abstractmethod
    def settings(self) -> JsonDict:
        """Everything that decides the content, as JSON values; "environment" is a contract."""

    @abstractmethod
    def splits(self, number: int) -> dict[str, list[int]]:
        """Return {"train" or "valid": positions in the shard}: its part of the split of the whole dataset."""

    @abstractmethod
    def max_steps(self, number: int) -> int:
        """Return the most steps that an episode of the shard may have."""

    @abstractmethod
    def episodes(self, number: int, counts: dict[str, int]) -> Iterator[tuple[int, Episode]]:
        """Make the episodes of a shard; yield (position in it, episode) in any order.

        Episodes that are run for it are counted in `counts`, of `COUNTS`.
        """

    @abstractmethod
    def statistics(self, rows: Sequence[ShardRow]) -> JsonDict:
        """Return statistics of the whole dataset beside those of its episodes."""

    @property
    def contract(self) -> EnvContract:
        """The environment of the episodes."""
        return EnvContract.from_dict(self.settings["environment"])

    @property
    def recipe_text(self) -> str:
        """`settings` as JSON text, which every shard holds."""
        return json.dumps(self.settings, sort_keys=True)

    @property
    def count(self) -> int:
        """Number of shards."""
        return -(-self.n_episodes // self.shard_episodes)

    def indices(self, number: int) -> range:
        """Return the episodes of a shard."""
        first = number * self.shard_episodes
        return range(first, min(first + self.shard_episodes, self.n_episodes))

    def __call__(self, number: int) -> ShardRow:
        """Make shard `number` in this process and return its row.

        Raises:
          UserError: the folder is gone, the disk is full, or the episodes cannot be made.
        """
        self.registered.register()  # the user's own environments, in a process that has not run the script
        # not created here: a mount that is gone would be written to the disk below it
        if not self.folder.is_dir():
            raise UserError(
                f"The folder {self.folder} is gone; start again, or mount it again and resume."
            )
        counts, contract = dict.fromkeys(COUNTS, 0), self.contract
        return write_shard_file(
            self.folder / shard_name(number),
            self.episodes(number, counts),
            contract,
            self.splits(number),
            env_id=gym_id(contract.env_name),
            attributes={"recipe": self.recipe_text},
            max_steps=self.max_steps(number),
            counts=counts,
        )
