"""Everything that decides what a dataset contains, as JSON values.

Written beside unfinished parts and into the finished file, so that a later run can tell whether it
would make the same data. What only decides how fast that goes (workers, batch width) is not in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import mujoco
import numpy as np


@dataclass(frozen=True)
class Recipe:
    """See the module docstring; `environment` is an `EnvContract` as a dict."""

    n_episodes: int
    seed: int
    policy: str
    policy_sha256: str
    randomization: str | None
    max_steps: int
    noise: float
    only_success: bool
    valid_fraction: float
    environment: dict[str, Any]
    mujoco_version: str
    model_sha256: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)


def model_sha256(model: mujoco.MjModel) -> str:
    """SHA-256 of the compiled model: of every number physics depends on."""
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return hashlib.sha256(buffer.data).hexdigest()


def differences(theirs: dict[str, Any], ours: dict[str, Any], prefix: str = "") -> list[str]:
    """How one recipe differs from ours, as "name: its value instead of mine"; both of JSON values."""
    found = []
    ours = json.loads(json.dumps(ours))  # as it is read again: tuples are lists
    for name in sorted(theirs.keys() | ours.keys()):
        a, b = theirs.get(name), ours.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name}: {a!r} instead of {b!r}")
    return found
