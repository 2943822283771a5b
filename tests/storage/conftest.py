"""Episodes of known content, for the tests of files."""

from __future__ import annotations

import numpy as np
import pytest

from simscaleai.contract import EnvContract
from simscaleai.storage.episode import Episode

CONTRACT = EnvContract(
    "reach",
    {"dt": 0.002},
    {"ee_pos": (3,), "image": (8, 6, 3)},
    {"ee_pos": "float32", "image": "uint8"},
    4,
    0.05,
)


def _episode(i: int, steps: int = 5, **about) -> Episode:
    rng = np.random.default_rng(i)
    return Episode(
        obs={
            "ee_pos": rng.normal(size=(steps, 3)).astype(np.float32),
            "image": rng.integers(0, 256, (steps, 8, 6, 3), dtype=np.uint8),
        },
        actions=rng.uniform(-1, 1, (steps, 4)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        dones=np.arange(steps) == steps - 1,
        states=rng.normal(size=(steps, 11)),
        **{
            "index": i,
            "seed": 2**62 + i,
            "success": i % 2 == 0,
            "policy": "scripted",
            "language": f"reach target {i}",
            "randomization": {"mass": [0.5, i]},
            "mujoco_version": "4.0.0",
            "model_sha256": "ab" * 32,
            **about,
        },
    )


@pytest.fixture(scope="session")
def contract() -> EnvContract:
    return CONTRACT


@pytest.fixture(scope="session")
def make_episode():
    """A function of a number, `steps` and attributes to an `Episode` of `contract`."""
    return _episode
