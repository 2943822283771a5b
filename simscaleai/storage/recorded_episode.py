"""Read an episode of a dataset back into an `Episode`, to write it to another one."""

from __future__ import annotations

import json

import numpy as np

from simscaleai.array_types import ArrayDict
from simscaleai.guards import guarded
from simscaleai.storage.episode import LABELS, NEXT_OBS, OBS, Episode
from simscaleai.storage.episode_source import EpisodeSource


def read_episode(data: EpisodeSource, i: int) -> Episode:
    """Return episode i of a dataset with everything that is recorded of it.

    What a file of another tool does not record stays unknown (seed, success, states), except that rewards
    are 0 and that the last step ends the episode.

    Raises:
      UserError: the episode cannot be read.
    """
    meta = data.episodes[i]
    with guarded(f"{data.path}: {meta.name}", "run `simscale validate` on it"):
        columns: ArrayDict = {key: data.read(i, key) for key in data.keys(i)}
        steps = len(columns["actions"])

        def text(name: str) -> str:
            return str(data.episode_attribute(i, name, ""))

        return Episode(
            obs=_below(OBS, columns),
            next_obs=_below(NEXT_OBS, columns),
            actions=columns["actions"],
            rewards=columns.get("rewards", np.zeros(steps, np.float32)),
            dones=columns.get("dones", np.arange(steps) == steps - 1),
            states=columns.get("states"),
            actions_by_instruction=columns.get(LABELS),
            seed=meta.seed or 0,
            success=bool(meta.success),
            unknown=tuple(name for name in ("seed", "success") if getattr(meta, name) is None),
            language=meta.language,
            randomization=json.loads(data.episode_attribute(i, "randomization", "{}")),
            policy=text("policy"),
            mujoco_version=text("mujoco_version"),
            model_sha256=text("model_sha256"),
        )


def _below(prefix: str, columns: ArrayDict) -> ArrayDict:
    return {k.removeprefix(prefix): v for k, v in columns.items() if k.startswith(prefix)}
