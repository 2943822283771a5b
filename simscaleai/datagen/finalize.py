"""The last step of data generation: from finished parts to the one file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from simscaleai.contract import EnvContract
from simscaleai.datagen.parts import Finished, PartsFolder
from simscaleai.datagen.recipe import Recipe
from simscaleai.datagen.resuming import publish
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode import Episode, split_episodes
from simscaleai.storage.episode_writer import EpisodeWriter


def finalize(recipe: Recipe, folder: PartsFolder, chosen: Sequence[Finished]) -> dict[str, Any]:
    """Write the dataset of the episodes `chosen`, in order; return its statistics."""
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
    publish(folder)
    return {**statistics, "content_hash": writer.content_hash}


def _episodes(
    recipe: Recipe, folder: PartsFolder, position: Mapping[int, int]
) -> Iterator[tuple[int, Episode]]:
    """(position in the dataset, episode) of the chosen ones, part by part."""
    texts = {k: getattr(recipe, k) for k in ("policy", "mujoco_version", "model_sha256")}
    for episode in folder.episodes(position):
        yield position[episode.index], replace(episode, **texts)


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
