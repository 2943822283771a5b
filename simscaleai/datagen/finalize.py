"""The last step of data generation: from finished parts to the one file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simscaleai.contract import EnvContract
from simscaleai.datagen.parts import Finished, PartsFolder, read_part
from simscaleai.datagen.recipe import Recipe
from simscaleai.errors import UserError
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode import Episode, split_episodes
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.episodes import open_dataset


def finalize(
    recipe: Recipe, folder: PartsFolder, chosen: Sequence[Finished], output: Path
) -> dict[str, Any]:
    """Write the dataset of the episodes `chosen`, in order; return its statistics.

    It is completed among the parts, then renamed to `output`; only then the parts are removed.
    """
    position = {episode.index: k for k, episode in enumerate(chosen)}
    statistics = _statistics(recipe, chosen)
    with atomic_path(folder.dataset) as temporary:
        writer = EpisodeWriter(
            temporary,
            EnvContract.from_dict(recipe.environment),
            seed=recipe.seed,
            valid_fraction=recipe.valid_fraction,
            attributes={"recipe": recipe.to_json(), "statistics": json.dumps(statistics)},
        )
        with writer:
            writer.add_all(_episodes(recipe, folder, position))
    with atomic_path(output) as temporary:
        os.replace(folder.dataset, temporary)
    folder.remove()
    return {**statistics, "content_hash": writer.content_hash}


def _episodes(
    recipe: Recipe, folder: PartsFolder, position: Mapping[int, int]
) -> Iterator[tuple[int, Episode]]:
    """(position in the dataset, episode) of the chosen ones, part by part."""
    waiting = dict(position)  # two parts may hold the same episode
    for part in folder.parts():
        for episode in read_part(part):
            if episode.index in waiting:
                yield (
                    waiting.pop(episode.index),
                    replace(
                        episode,
                        policy=recipe.policy,
                        mujoco_version=recipe.mujoco_version,
                        model_sha256=recipe.model_sha256,
                    ),
                )
    assert not waiting


def _statistics(recipe: Recipe, chosen: Sequence[Finished]) -> dict[str, Any]:
    count = len(chosen)
    steps = sum(e.length for e in chosen)
    split = split_episodes(count, recipe.seed, recipe.valid_fraction)
    attempts = chosen[-1].index + 1
    successes = sum(e.success for e in chosen)
    return {
        "total_episodes": count,
        "total_steps": steps,
        "mean_episode_length": steps / count,
        "mean_reward": math.fsum(e.reward for e in chosen) / count,
        "success_rate": successes / count,
        "attempts": attempts,
        "attempt_success_rate": successes / attempts,
        "train_episodes": len(split["train"]),
        "valid_episodes": len(split["valid"]),
    }


def made_before(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and statistics that a dataset was written with; empty in one of another tool."""
    with open_dataset(output) as data:
        found = [data.attribute(name, "{}") for name in ("recipe", "statistics")]
        content = data.attribute("content_hash", "")
    try:
        recipe, statistics = (dict(json.loads(text)) for text in found)
    except (TypeError, ValueError) as error:
        raise UserError(f"{output} does not say how it was made; use --overwrite.") from error
    return recipe, {**statistics, "content_hash": content}
