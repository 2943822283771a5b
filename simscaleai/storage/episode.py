"""One recorded episode, and hashes of its content.

Index t of the arrays is step t: the observation and physics state before action t, action t itself, and
the reward and done flag after it. Hashes depend only on values, not on compression, chunks, the order of
episodes or the name of an episode in its file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.array_types import Array, ArrayDict, BoolArray, FloatArray
from simscaleai.json_types import JsonDict, JsonValue

SCHEMA_VERSION = 1
OBS = "obs/"
NEXT_OBS = "next_obs/"
LABELS = "actions_by_instruction"
SCENE_PATH = "xml_path"
"""The setting of an environment with the path of its scene."""

IDENTITY = ("seed", "success", "policy", "language", "randomization", "mujoco_version")
"""Attributes in the hash of an episode, besides its arrays and `model_sha256`."""


@dataclass
class Episode:
    """An episode of T steps.

    Attributes:
      obs: {key: (T, ...)} before each action; vectors float32, images uint8 (T, H, W, 3).
      actions: (T, action_dim) float32 in [-1, 1].
      rewards: (T,) float32.
      dones: (T,) bool; True where the episode ended.
      states: (T, nstate) float64 [time, qpos, qvel, act, mocap_pos, mocap_quat] before each action; None in
        data of another tool.
      next_obs: {key: (T, ...)} after each action, with the keys of `obs`; empty if not recorded.
      actions_by_instruction: (T, K, action_dim) the expert's action for each of the K instructions that the
        contract lists, in the same state; None where every instruction means the same. Privileged: see
        `Task.actions_by_instruction`.
      index: number of the episode in its run (not stored).
      seed: seed of its reset.
      success: whether the task was solved.
      policy: "random", "scripted" or a checkpoint.
      language: the instruction.
      randomization: {parameter: sampled value} as JSON values; empty without randomization.
      mujoco_version, model_sha256: version of MuJoCo, and hash of the compiled model.
      diverged: whether the physics became unstable (not stored: such episodes are excluded).
      unknown: attributes that the source of the episode does not record, such as "success"; they are not
        stored.
    """

    obs: ArrayDict
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    dones: BoolArray
    states: FloatArray | None
    next_obs: ArrayDict = field(default_factory=dict)
    actions_by_instruction: NDArray[np.float32] | None = None
    index: int = 0
    seed: int = 0
    success: bool = False
    policy: str = ""
    language: str = ""
    randomization: JsonDict = field(default_factory=dict)
    mujoco_version: str = ""
    model_sha256: str = ""
    diverged: bool = False
    unknown: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.actions)

    def arrays(self) -> ArrayDict:
        """Return {path below the demo's group: array}, in sorted order."""
        named = {OBS + k: v for k, v in self.obs.items()}
        named |= {NEXT_OBS + k: v for k, v in self.next_obs.items()}
        named |= {
            "actions": self.actions,
            "dones": self.dones,
            "rewards": self.rewards,
        }
        if self.states is not None:
            named["states"] = self.states
        if self.actions_by_instruction is not None:
            named[LABELS] = self.actions_by_instruction
        return dict(sorted(named.items()))

    def attributes(self) -> JsonDict:
        """Return the attributes of the demo's group."""
        # `num_samples` is robomimic's name for the number of steps
        attributes = {
            "num_samples": len(self),
            "seed": self.seed,
            "success": self.success,
            "policy": self.policy,
            "language": self.language,
            "randomization": json.dumps(self.randomization, sort_keys=True),
            "mujoco_version": self.mujoco_version,
            "model_sha256": self.model_sha256,
        }
        return {name: value for name, value in attributes.items() if name not in self.unknown}


@dataclass(frozen=True)
class EpisodeMeta:
    """Description of an episode, known before its arrays are read.

    Attributes:
      name: name of its group, such as "demo_0".
      length: number of steps.
      seed, success: None if the file does not record them.
      language: the instruction, or "".
    """

    name: str
    length: int
    seed: int | None
    success: bool | None
    language: str


def array_checksum(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and little-endian values, in sorted order of names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = arrays[name]
        # the same hash on machines of either byte order
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        digest.update(f"{name} {little.dtype.str} {value.shape}\n".encode())
        digest.update(little.data)
    return digest.hexdigest()


def episode_digest(checksum: str, attributes: JsonDict, masks: Iterable[str]) -> str:
    """Return the SHA-256 of an episode: of the checksum of its arrays, its attributes and its splits."""
    content = [checksum, sorted(masks), *(attributes.get(k) for k in (*IDENTITY, "model_sha256"))]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def combine_digests(digests: Iterable[str], env_args: str, *, with_path: bool = False) -> str:
    """Return the content hash of a file: of its episodes, in any order, and its environment.

    The path of the scene is excluded, as `model_sha256` of the episodes identifies the scene. Earlier
    versions included it (`with_path`).
    """
    content = json.dumps([sorted(digests), env_args if with_path else _without_path(env_args)])
    return hashlib.sha256(content.encode()).hexdigest()


def _without_path(env_args: str) -> str:
    """Return JSON text without the path of a scene; unchanged if it has none."""
    try:
        values = json.loads(env_args)
    except (ValueError, RecursionError):  # written by another tool
        return env_args
    without_path = _no_scene_path(values)
    # unchanged text keeps its hash, however another tool formats it
    return env_args if without_path == values else json.dumps(without_path, sort_keys=True)


def _no_scene_path(value: JsonValue) -> JsonValue:
    if not isinstance(value, dict):
        return value
    return {k: _no_scene_path(v) for k, v in value.items() if k != SCENE_PATH or not v}


def split_episodes(count: int, seed: int, valid_fraction: float) -> dict[str, list[int]]:
    """Split positions 0..count-1 into sorted lists {"train": ..., "valid": ...}, by the seed.

    The validation split has round(count * valid_fraction) episodes. With two or more episodes and a fraction
    above 0, neither split is empty.
    """
    size = round(count * valid_fraction)
    if valid_fraction > 0 and count > 1:
        size = min(max(size, 1), count - 1)
    # a stream of its own: the split does not depend on how the episodes were generated
    order = seeding.generator(seed, "split").permutation(count)
    return {
        "train": sorted(int(i) for i in order[size:]),
        "valid": sorted(int(i) for i in order[:size]),
    }
