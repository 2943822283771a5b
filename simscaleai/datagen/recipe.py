"""Everything that decides what a dataset contains, as JSON values.

Written beside the shards of an unfinished run and into the finished file, so that a later run knows
whether it would make the same data. Settings that change only the speed (workers, number of envs) are left
out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import mujoco
import numpy as np

from simscaleai import seeding
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import SCENE_PATH


def episode_seed(seed: int, index: int) -> int:
    """Return the seed that episode `index` of a dataset with master seed `seed` runs on."""
    return seeding.derive_seed(seed, "episode", index)


@dataclass(frozen=True)
class Recipe:
    """See the module docstring.

    Attributes:
      environment: an `EnvContract` as a dict.
      render: {"cameras", "image_size"} that a dataset of states is to be drawn with, or {}.
    """

    n_episodes: int
    seed: int
    policy: str
    policy_sha256: str
    randomization: str | None
    max_steps: int
    noise: float
    only_success: bool
    valid_fraction: float
    environment: JsonDict
    mujoco_version: str
    model_sha256: str
    next_obs: bool = False
    expert_labels: bool = False
    switch_instructions: bool = False
    render: JsonDict = field(default_factory=dict)

    def to_dict(self) -> JsonDict:
        """Return JSON values; fields of later versions only where they say something."""
        later = ("next_obs", "expert_labels", "switch_instructions", "render")
        return {k: v for k, v in asdict(self).items() if k not in later or v}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)


def model_sha256(model: mujoco.MjModel) -> str:
    """Return the SHA-256 of the compiled model: of everything that physics and rendering read.

    Paths of meshes and textures are left out: the same files give the same hash in any folder.
    """
    digest = hashlib.sha256()
    for name, value in _fields(model):
        content = np.ascontiguousarray(value)
        digest.update(f"{name} {content.dtype.str} {content.shape}\n".encode())
        digest.update(content.tobytes())
    return digest.hexdigest()


def is_model(model: mujoco.MjModel, sha256: str) -> bool:
    """Return whether a recorded hash is that of `model`; earlier versions hashed paths, too."""
    if sha256 == model_sha256(model):
        return True
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return sha256 == hashlib.sha256(buffer.data).hexdigest()


_LOCAL = ("paths", "npaths", "nbuffer")  # paths of files, and sizes that depend on them


def _fields(thing: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of all arrays, numbers and bytes of a model and of the structs in it."""
    for name in dir(thing):  # in sorted order
        if name.startswith("_") or name in _LOCAL or name.endswith("_pathadr"):
            continue
        value = getattr(thing, name)
        if isinstance(value, np.ndarray | int | float | bytes):
            yield prefix + name, value
        elif not callable(value):
            yield from _fields(value, f"{prefix}{name}.")


def differences(theirs: JsonDict, ours: JsonDict, prefix: str = "") -> list[str]:
    """Return how a recipe differs from ours, as "name: its value instead of ours"; both are JSON values.

    The path of a scene makes no difference: `model_sha256` identifies it.
    """
    found = []
    ours = json.loads(json.dumps(ours))  # as it is read again: tuples are lists
    for name in sorted((theirs.keys() | ours.keys()) - {SCENE_PATH}):
        a, b = theirs.get(name), ours.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name}: {a!r} instead of {b!r}")
    return found
