"""Write chosen episodes of open datasets to a new dataset; the dataset tools are made of this.

The output appears whole or not at all, an input is never changed, and what a file says of itself (totals,
statistics, splits, checksums, index) is computed anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from simscaleai.contract import EnvContract
from simscaleai.datagen.dataset_output import DatasetOutput, NewDataset
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.env_args import parse_env_args
from simscaleai.storage.episode import Episode
from simscaleai.storage.episodes import EpisodeSource
from simscaleai.storage.recorded_episode import read_episode
from simscaleai.storage.split_masks import SPLITS

_CARRIED = ("fps", "robot_type")  # attributes of imported data, which have no contract that says it

Splits = dict[str, list[int]]
"""{mask: positions, sorted}."""


@dataclass(frozen=True)
class Choice:
    """Episodes of one dataset, in the order in which they are written."""

    data: EpisodeSource
    episodes: Sequence[int]


@dataclass(frozen=True)
class Rewrite:
    """A dataset to write.

    Attributes:
      choices: the episodes, dataset by dataset.
      recipe: how the dataset was made, as JSON values.
      splits: {mask: positions in the new dataset}; by default those of the sources.
      contract: of the new dataset; by default that of the first source.
      change: applied to every episode before it is written.
    """

    choices: Sequence[Choice]
    recipe: JsonDict
    splits: Splits | None = None
    contract: EnvContract | None = None
    change: Callable[[Episode], Episode] = field(default=lambda episode: episode)

    def run(self, output: DatasetOutput, *, show_progress: bool) -> JsonDict:
        """Write the dataset; return what the tools return.

        Raises:
          UserError: there are no episodes, or one cannot be read.
        """
        first = self.choices[0].data
        lengths = [
            choice.data.episodes[i].length for choice in self.choices for i in choice.episodes
        ]
        if not lengths:
            raise UserError(
                f"No episode of {first.path} is chosen; nothing is written. `simscale data info` shows what"
                " there is."
            )
        splits = source_splits(self.choices) if self.splits is None else self.splits
        carried = {name: first.attribute(name) for name in _CARRIED}
        # before the output is begun: it reads every episode's rewards, and may fail there
        statistics = self._statistics(splits)
        about = NewDataset(
            lengths,
            first.contract if self.contract is None else self.contract,
            splits,
            parse_env_args(first.attribute("env_args", "{}")).get("env_name"),
            {
                # not the recipe of a source: `datagen --resume` must not take one for the other
                "recipe": json.dumps(self.recipe),
                "statistics": json.dumps(statistics),
                **{name: value for name, value in carried.items() if value is not None},
            },
        )
        return statistics | output.write(self._episodes(), about, show=show_progress)

    def _episodes(self) -> Iterator[Episode]:
        for choice in self.choices:
            for i in choice.episodes:
                yield self.change(read_episode(choice.data, i))

    def _statistics(self, splits: Splits) -> JsonDict:
        metas = [choice.data.episodes[i] for choice in self.choices for i in choice.episodes]
        rewards = [
            float(choice.data.read(i, "rewards").sum())
            for choice in self.choices
            for i in choice.episodes
            if "rewards" in choice.data.keys(i)
        ]
        steps = sum(meta.length for meta in metas)
        return {
            "total_episodes": len(metas),
            "total_steps": steps,
            "mean_episode_length": steps / len(metas),
            "mean_reward": math.fsum(rewards) / max(len(rewards), 1),
            "success_rate": sum(bool(meta.success) for meta in metas) / len(metas),
            **{f"{name}_episodes": len(splits.get(name, ())) for name in SPLITS},
        }


def source_splits(choices: Sequence[Choice]) -> Splits:
    """Return the masks of the sources, by positions in the new dataset."""
    found: dict[str, list[int]] = {}
    start = 0
    for choice in choices:
        data = choice.data
        own: Mapping[str, Sequence[int]] = data.splits()
        # a dataset without these masks has a split all the same, which the new file keeps
        if not set(SPLITS) & own.keys():
            own = {**own, **{name: data.split(name) for name in SPLITS}}
        for name, positions in own.items():
            members = set(positions)
            chosen = [start + k for k, i in enumerate(choice.episodes) if i in members]
            found.setdefault(name, []).extend(chosen)
        start += len(choice.episodes)
    return found


def source_hash(data: EpisodeSource) -> str:
    """Return what identifies a dataset in the recipe of another; "" if it was made elsewhere."""
    return str(data.attribute("content_hash", ""))
