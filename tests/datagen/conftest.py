"""Data generation with `PointEnv`."""

from __future__ import annotations

import pytest

from simscaleai.datagen import generate_dataset
from tests.datagen.point_env import PointEnv, make_point_envs


@pytest.fixture
def point_env(monkeypatch):
    """Every environment is a PointEnv; returns those that were made."""
    return make_point_envs(monkeypatch)


@pytest.fixture(scope="package")
def point_shards(tmp_path_factory):
    """A folder of 40 episodes of PointEnv in shards of 12, to be copied, and its content hash."""
    folder = tmp_path_factory.mktemp("shards") / "big"
    with pytest.MonkeyPatch.context() as patch:
        make_point_envs(patch)
        made = generate_dataset("point", 40, folder, "scripted", shard_episodes=12, noise=0.1)
    return folder, made["content_hash"]


@pytest.fixture
def unstable(monkeypatch):
    """A function that sets which share of a PointEnv's episodes diverges."""
    return lambda share: monkeypatch.setattr(PointEnv, "unstable", share)
