"""One recorded episode, and what identifies its content.

Row t of every array belongs together: the observation and physics state before action t, action t,
and the reward and done flag that followed. Digests here depend on values alone: not on compression,
chunks, the order of episodes or the name an episode has in its file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding

SCHEMA_VERSION = 1
OBS = "obs/"
NEXT_OBS = "next_obs/"
SCENE_PATH = "xml_path"
"""The setting of an environment that says where its scene lies."""

IDENTITY = ("seed", "success", "policy", "language", "randomization", "mujoco_version")
"""Attributes that belong to an episode's content, beside its arrays and `model_sha256`."""


@dataclass
class Episode:
    """T steps of one environment.

    Attributes:
      obs: {key: (T, ...)} before each action; vectors float32, images uint8 (T, H, W, 3).
      actions: (T, action_dim) float32 in [-1, 1].
      rewards: (T,) float32.
      dones: (T,) bool; True where the episode ended.
      states: (T, nstate) float64 [time, qpos, qvel, act, mocap_pos, mocap_quat] before each action.
      next_obs: {key: (T, ...)} after each action, of the same keys as `obs`; empty where it was not recorded.
      index: which episode of its run this is (not stored); `seed` is what it ran on.
      success: whether the task was solved.
      policy: who acted: "random", "scripted" or a checkpoint.
      language: the instruction.
      randomization: {parameter: sampled value} as JSON values; empty when it was off.
      mujoco_version, model_sha256: which physics, of which compiled model.
      diverged: whether the physics became unstable (not stored: such an episode is no data).
    """

    obs: dict[str, NDArray[Any]]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    dones: NDArray[np.bool_]
    states: NDArray[np.float64]
    next_obs: dict[str, NDArray[Any]] = field(default_factory=dict)
    index: int = 0
    seed: int = 0
    success: bool = False
    policy: str = ""
    language: str = ""
    randomization: dict[str, Any] = field(default_factory=dict)
    mujoco_version: str = ""
    model_sha256: str = ""
    diverged: bool = False

    def __len__(self) -> int:
        return len(self.actions)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """{path below the demo's group: array}, in sorted order."""
        named = {OBS + k: v for k, v in self.obs.items()}
        named |= {NEXT_OBS + k: v for k, v in self.next_obs.items()}
        named |= {
            "actions": self.actions,
            "dones": self.dones,
            "rewards": self.rewards,
            "states": self.states,
        }
        return dict(sorted(named.items()))

    def attributes(self) -> dict[str, Any]:
        """The attributes of the demo's group that describe the episode."""
        return {
            "num_samples": len(self),
            "seed": self.seed,
            "success": self.success,
            "policy": self.policy,
            "language": self.language,
            "randomization": json.dumps(self.randomization, sort_keys=True),
            "mujoco_version": self.mujoco_version,
            "model_sha256": self.model_sha256,
        }


@dataclass(frozen=True)
class EpisodeMeta:
    """One episode before its arrays are read.

    Attributes:
      name: its group, such as "demo_0".
      length: steps.
      seed, success: None where the file does not say.
      language: the instruction, or "".
    """

    name: str
    length: int
    seed: int | None
    success: bool | None
    language: str


def array_checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian values, in sorted order of names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = arrays[name]
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        digest.update(f"{name} {little.dtype.str} {value.shape}\n".encode())
        digest.update(little.data)
    return digest.hexdigest()


def episode_digest(checksum: str, attributes: Mapping[str, Any], masks: Iterable[str]) -> str:
    """SHA-256 of an episode: its arrays' checksum, its attributes and the splits it is in."""
    content = [checksum, sorted(masks), *(attributes.get(k) for k in (*IDENTITY, "model_sha256"))]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def combine_digests(digests: Iterable[str], env_args: str, *, with_place: bool = False) -> str:
    """The content hash of a file: of its episodes in any order, and of its environment.

    Where the environment's scene lies is no content: `model_sha256` of the episodes says what it is.
    Earlier versions hashed that, too (`with_place`).
    """
    content = json.dumps([sorted(digests), env_args if with_place else _without_place(env_args)])
    return hashlib.sha256(content.encode()).hexdigest()


def _without_place(env_args: str) -> str:
    """JSON text without the path of a scene; unchanged where there is none."""
    try:
        values = json.loads(env_args)
    except (ValueError, RecursionError):  # of another tool
        return env_args
    placeless = _no_scene_path(values)
    return env_args if placeless == values else json.dumps(placeless, sort_keys=True)


def _no_scene_path(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {k: _no_scene_path(v) for k, v in value.items() if k != SCENE_PATH or not v}


def split_episodes(count: int, seed: int, valid_fraction: float) -> dict[str, list[int]]:
    """Positions 0..count-1 as sorted lists {"train": ..., "valid": ...}; the same at every call.

    The validation part has round(count * valid_fraction) episodes, but at least one where there are
    two or more and the fraction is not 0; the training part is never empty.
    """
    size = round(count * valid_fraction)
    if valid_fraction > 0 and count > 1:
        size = min(max(size, 1), count - 1)
    order = seeding.generator(seed, "split").permutation(count)
    return {
        "train": sorted(int(i) for i in order[size:]),
        "valid": sorted(int(i) for i in order[:size]),
    }
