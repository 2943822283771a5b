"""Find what validation has and training does not, or has otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.datagen.finding import Finding
from simscaleai.storage.episodes import EpisodeSource

_FEW = 20  # episodes; half of them in each part, below which no shift of the actions is found
_SHIFT, _SHIFT_ERRORS = 0.5, 4.0  # in standard deviations, and in standard errors
# Both: a large dataset has significant shifts that are too small to matter, a small one large ones by chance.


def split_shifts(
    data: EpisodeSource, means: Mapping[int, FloatArray], action_name: Callable[[int], str]
) -> list[Finding]:
    """Compare the actions and the instructions of training and validation.

    Args:
      data: the dataset.
      means: {episode: mean action (d,)}.
      action_name: of an entry of the action.
    """
    if data.masks.problems():  # which are errors
        return []
    train, valid = ([i for i in data.split(name) if i in means] for name in ("train", "valid"))
    remedy = "split again with `simscale data split`, unless it is meant so"
    found = []
    taught = {data.episodes[i].language for i in train}
    names = [data.episodes[i].name for i in valid if data.episodes[i].language not in taught]
    if names and len(train) >= _FEW:
        problem = "validation has instructions that training does not have"
        found.append(Finding(problem, tuple(names), remedy))
    if min(len(train), len(valid)) < _FEW // 2:
        return found
    a, b = (np.stack([means[i] for i in part]) for part in (train, valid))  # (n, d)
    if a.shape[1:] != b.shape[1:]:  # an error of its own
        return found
    difference = np.abs(a.mean(axis=0) - b.mean(axis=0))
    error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
    # the floor is for entries that never change: 0 / 0 is no shift
    size = difference / np.maximum(np.sqrt((a.var(axis=0) + b.var(axis=0)) / 2), 1e-9)
    for k in np.flatnonzero((size > _SHIFT) & (difference > _SHIFT_ERRORS * error)):
        problem = (
            f"actions of training and validation differ: the mean of {action_name(int(k))} by"
            f" {size[k]:.1f} standard deviations of an episode"
        )
        found.append(Finding(problem, (), remedy))
    return found
