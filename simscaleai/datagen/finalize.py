"""The last step of data generation: from finished shards to one file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from simscaleai.contract import EnvContract
from simscaleai.datagen.recipe import Recipe
from simscaleai.datagen.shards import EpisodeSummary, ShardFolder
from simscaleai.datagen.unfinished import publish
from simscaleai.json_types import JsonDict
from simscaleai.sim.factory import gym_id
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode import Episode, split_episodes
from simscaleai.storage.episode_writer import EpisodeWriter


def finalize(
    recipe: Recipe, folder: ShardFolder, finished: Mapping[int, EpisodeSummary]
) -> JsonDict:
    """Write the dataset of the first episodes of {index: episode} that are kept; return its statistics."""
    chosen = [finished[i] for i in sorted(finished) if finished[i].kept][: recipe.n_episodes]
    position = {episode.index: k for k, episode in enumerate(chosen)}
    tried = [episode for i, episode in finished.items() if i <= chosen[-1].index]
    statistics = _statistics(recipe, chosen, tried)
    with atomic_path(folder.dataset) as temporary:
        writer = EpisodeWriter(
            temporary,
            EnvContract.from_dict(recipe.environment),
            seed=recipe.seed,
            valid_fraction=recipe.valid_fraction,
            env_id=gym_id(recipe.environment["env_name"]),
            attributes={"recipe": recipe.to_json(), "statistics": json.dumps(statistics)},
        )
        with writer:
            writer.add_all(_episodes(recipe, folder, position))
    publish(folder)
    return {**statistics, "content_hash": writer.content_hash}


def _episodes(
    recipe: Recipe, folder: ShardFolder, position: Mapping[int, int]
) -> Iterator[tuple[int, Episode]]:
    """Yield (position in the dataset, episode) of the chosen episodes, shard by shard."""
    texts = {k: getattr(recipe, k) for k in ("policy", "mujoco_version", "model_sha256")}
    for episode in folder.episodes(position):
        yield position[episode.index], replace(episode, **texts)


def _statistics(
    recipe: Recipe, chosen: Sequence[EpisodeSummary], tried: Sequence[EpisodeSummary]
) -> JsonDict:
    """Return statistics of the dataset's episodes, and of all attempts."""
    count = len(chosen)
    steps = sum(e.length for e in chosen)
    split = split_episodes(count, recipe.seed, recipe.valid_fraction)
    successes = sum(e.success for e in chosen)
    return {
        "total_episodes": count,
        "total_steps": steps,
        "mean_episode_length": steps / count,
        "mean_reward": math.fsum(e.reward for e in chosen) / count,
        "success_rate": successes / count,
        "attempts": len(tried),
        "attempt_success_rate": sum(e.success for e in tried) / len(tried),
        "diverged": sum(e.diverged for e in tried),
        "train_episodes": len(split["train"]),
        "valid_episodes": len(split["valid"]),
    }
