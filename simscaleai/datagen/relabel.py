"""Label an existing dataset: the expert's action for every instruction in every recorded state.

    relabel_dataset("data/old.h5", "data/labeled.h5")

`generate_dataset` records these labels (`actions_by_instruction`) itself. This adds them to a file of an
earlier version, or to one whose task has learned further instructions since. Each state is loaded into the
simulation, and the expert is asked for every request of the task; all else is copied.

Promise: the labels are those that data generation would have recorded. Where the expert acted itself, its
label for the episode's own instruction has to be the recorded action, or the dataset is refused. The output
appears whole or not at all, and an existing file is not touched unless asked.

Trap: a controller that remembers its last target, such as "joint", does not act by the state alone; such a
dataset is refused by that comparison.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import FloatArray
from simscaleai.convert import converted
from simscaleai.datagen.dataset_output import DatasetOutput, NewDataset
from simscaleai.datagen.recorded_states import (
    BATCH,
    check_states,
    in_batches,
    recorded_contract,
)
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.json_types import JsonDict
from simscaleai.sim.factory import gym_id, make_vec_env
from simscaleai.sim.vector_env import TaskVectorEnv
from simscaleai.storage.episode import Episode
from simscaleai.storage.episodes import EpisodeSource, open_dataset
from simscaleai.storage.recorded_episode import read_episode

_TOLERANCE = 1e-5  # between two computations of the same action, which lies in [-1, 1]


@converted
def relabel_dataset(
    dataset: str | Path,
    output_path: str | Path,
    *,
    shard_episodes: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write `dataset` again, with the expert's action for every instruction of its task.

    Args:
      dataset: a file of `generate_dataset`.
      output_path: the new file, or folder of shards; its parent is created.
      shard_episodes: write a folder of shards with so many episodes each.
      overwrite: replace an existing output.
      show_progress: draw a progress bar on stderr, if that is a terminal.

    Returns:
      {"total_episodes", "total_steps", "instructions" (how many each step has a label for), "output_path",
      "file_size_mb", "content_hash", "seconds"}, and "shards" of a folder.

    Raises:
      ExistingFileError: the output is there.
      UserError: the task has one instruction only, the dataset does not say in which environment it was
        made, or the expert would not have acted as it was recorded.
    """
    began = time.perf_counter()
    output = DatasetOutput(Path(output_path), shard_episodes, overwrite)
    output.check([dataset])
    with open_dataset(dataset) as data:
        contract = recorded_contract(data, "relabeled")
        settings = {**contract.env_config, "cameras": []}  # images are copied
        with closing(make_vec_env(contract.env_name, BATCH, **settings)) as env:
            instructions = env.contract.instructions
            if not instructions:
                raise UserError(
                    f"The task {contract.env_name!r} of {data.path} asks for one thing only; labels are for"
                    " tasks whose instruction chooses, such as 'pick_place_color'."
                )
            check_states(data, env)
            labeler = _Labeler(data, env)
            about = NewDataset(
                data.lengths.tolist(),
                replace(contract, instructions=instructions),
                data.splits(),
                gym_id(contract.env_name),
                _attributes(data),
            )
            made = output.write(labeler.episodes(), about, show=show_progress)
        return {
            "total_episodes": len(data),
            "total_steps": int(data.lengths.sum()),
            "instructions": len(instructions),
            **made,
            "seconds": time.perf_counter() - began,
        }


def _attributes(data: EpisodeSource) -> dict[str, str]:
    """Return what the new file says of how it was made."""
    # Another recipe than that of the source: `datagen --resume` must not take one for the other.
    recipe = {"relabeled_from": data.attribute("content_hash", "")}
    return {"recipe": json.dumps(recipe), "statistics": data.attribute("statistics", "{}")}


class _Labeler:
    """Labels the episodes of `data` in `env`, which has `BATCH` envs without cameras."""

    def __init__(self, data: EpisodeSource, env: TaskVectorEnv) -> None:
        self._data, self._env = data, env
        self._env.reset(seed=0)  # an expert may read the simulation, which a reset hands to it
        self._expert = env.task.expert()
        self._sentences = list(env.contract.instructions.values())

    def episodes(self) -> Iterator[Episode]:
        """Yield all episodes with labels, in order."""
        for i, episode in enumerate(self._data.episodes):
            with guarded(f"{self._data.path}: {episode.name}", "run `simscale validate` on it"):
                labeled = self._episode(i)
            yield labeled

    def _episode(self, i: int) -> Episode:
        recorded = read_episode(self._data, i)
        assert recorded.states is not None  # `check_states` has read them
        episode = replace(recorded, actions_by_instruction=self._labels(recorded.states))
        self._check(episode, self._data.episodes[i].name)
        return episode

    def _labels(self, recorded: FloatArray) -> NDArray[np.float32]:
        """Return the labels (T, K, A) of the states of an episode."""
        batches = []
        task, sim = self._env.task, self._env.sim
        for states in in_batches(recorded):
            # Latents are part of a state: nothing has to be simulated.
            sim.load_states(states)
            labels = task.actions_by_instruction(self._expert, task.observe(sim))  # (BATCH, K, A)
            batches.append(labels)
        # The last batch is padded.
        return np.concatenate(batches)[: len(recorded)].astype(np.float32)

    def _check(self, episode: Episode, name: str) -> None:
        """Raise UserError unless an expert that acted itself is labeled with what it did."""
        # An instruction that is not listed, as of an earlier version, has no label to compare with.
        asked = [k for k, each in enumerate(self._sentences) if episode.language in each]
        assert episode.actions_by_instruction is not None
        if episode.policy != "scripted" or not asked:
            return
        own = episode.actions_by_instruction[:, asked[0]]  # (T, A)
        error = float(np.abs(own - episode.actions).max())
        if error > _TOLERANCE:
            raise UserError(
                f"{self._data.path}: in {name} the expert's action differs by up to {error:.2g} from the one"
                " that was recorded; task, robot or controller have changed since, or the controller"
                " remembers more than the state: generate the data again."
            )
