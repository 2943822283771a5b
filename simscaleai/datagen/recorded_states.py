"""Recorded physics states, loaded into the environment that they were recorded in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.sim.vector_env import TaskVectorEnv
from simscaleai.storage.episodes import EpisodeSource

BATCH = 16
"""States that are loaded together; the last batch of an episode is padded."""


def recorded_contract(data: EpisodeSource, verb: str) -> EnvContract:
    """Return the contract of a dataset; UserError if it has none, which says what cannot be done then."""
    if data.contract is None:
        raise UserError(
            f"{data.path} does not say in which environment it was made; only datasets of"
            f" `simscale datagen` can be {verb}."
        )
    return data.contract


def check_states(data: EpisodeSource, env: TaskVectorEnv) -> None:
    """Raise UserError unless the states of `data` are those of the scene of `env`."""
    width = env.states().shape[1]  # time, qpos, qvel, act, and the mocap bodies
    for i, episode in enumerate(data.episodes):
        shape = data.shape(i, "states")
        if shape[1:] != (width,):
            raise UserError(
                f"{data.path}: {episode.name} has states of shape {shape}, and the scene of"
                f" {env.contract.env_name!r} has {width} numbers in a state; the scene has"
                " changed since, so generate the data again."
            )


def in_batches(states: FloatArray) -> Iterator[FloatArray]:
    """Yield `states` (T, d) in batches of `BATCH`, the last one padded with its last state."""
    for start in range(0, len(states), BATCH):
        # A vector environment has a fixed number of envs, and all of them need a state.
        batch = states[start : start + BATCH]  # (at most BATCH, d)
        yield np.concatenate([batch, np.repeat(batch[-1:], BATCH - len(batch), axis=0)])
