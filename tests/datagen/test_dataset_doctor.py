"""Each check of the doctor finds what it is for, by name, and nothing in data without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simscaleai.contract import EnvContract
from simscaleai.datagen import generate_dataset, validate_dataset
from simscaleai.storage.episode import Episode
from simscaleai.storage.episode_writer import EpisodeWriter

CONTRACT = EnvContract(
    "point",
    {},
    {"image": (4, 4, 3), "pos": (3,), "timestamp": (1,)},
    {"image": "uint8", "pos": "float32", "timestamp": "float32"},
    2,
    0.05,
    action_names=("x", "gripper"),
)


def episode(k: int, steps: int = 10) -> Episode:
    rng = np.random.default_rng(k)
    gripper = np.where(np.arange(steps) < steps // 2, 1, -1)
    return Episode(
        obs={
            "pos": rng.normal(size=(steps, 3)).astype(np.float32),
            "image": rng.integers(0, 256, (steps, 4, 4, 3), dtype=np.uint8),
            "timestamp": np.arange(steps, dtype=np.float32)[:, None] * 0.05,
        },
        actions=np.stack([rng.uniform(-1, 1, steps), gripper], 1).astype(np.float32),
        rewards=np.ones(steps, np.float32),
        dones=np.arange(steps) == steps - 1,
        states=np.arange(steps)[:, None] * 0.05,
        seed=k,
        success=True,
        language="go",
    )


def findings(path: Path, episodes: list[Episode], splits: dict | None = None) -> list[str]:
    with EpisodeWriter(path, CONTRACT, splits=splits) as writer:
        writer.add_all(enumerate(episodes))
    report = validate_dataset(path)
    assert report.ok, report.errors
    return [str(finding) for finding in report.findings]


@pytest.fixture
def episodes() -> list[Episode]:
    return [episode(k) for k in range(24)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.h5"


def test_good_data_has_no_findings(path: Path, episodes: list[Episode]) -> None:
    """A gripper that is always at a limit is no saturation."""
    assert findings(path, episodes) == []


def test_saturated_actions(path: Path, episodes: list[Episode]) -> None:
    episodes[3].actions[:, 0] = 1
    (found,) = findings(path, episodes)
    assert "x is at its limit in more than 95 %" in found and "(demo_3)" in found


def test_black_and_frozen_cameras(path: Path, episodes: list[Episode]) -> None:
    episodes[1].obs["image"][:] = 3
    episodes[2].obs["image"][:] = episodes[2].obs["image"][0]
    black, frozen = findings(path, episodes)
    assert "'image' is black" in black and "(demo_1)" in black and "simscale render" in black
    assert "'image' is frozen" in frozen and "(demo_2)" in frozen


def test_near_duplicates(path: Path, episodes: list[Episode]) -> None:
    twin = episode(4)
    twin.obs["pos"] += np.float32(1e-3)
    (found,) = findings(path, [*episodes, twin])
    assert "demo_24 like demo_4" in found


def test_gaps_in_time(path: Path, episodes: list[Episode]) -> None:
    episodes[5].obs["timestamp"][6:] += 0.5
    (found,) = findings(path, episodes)
    assert "time has gaps" in found and "(demo_5)" in found


def test_outliers(path: Path, episodes: list[Episode]) -> None:
    # 10 steps each, so a scale of 1 step: 8 further are an outlier; the return, 1 a step, is one too
    length, total = findings(path, [*episodes, episode(99, steps=60)])
    assert "the length is far" in length and "(demo_24)" in length
    assert "the return is far" in total


def test_shift_between_the_splits(path: Path, episodes: list[Episode]) -> None:
    splits = {"train": range(12), "valid": range(12, 24)}
    assert findings(path, episodes, splits) == []
    for one in episodes[12:]:
        one.actions[:, 0] = np.clip(one.actions[:, 0] + 0.8, -0.99, 0.99)
    (found,) = findings(path, episodes, splits)
    assert "the mean of x by" in found and "simscale data split" in found


def test_instructions_that_only_validation_has(path: Path, episodes: list[Episode]) -> None:
    episodes[20] = replace(episodes[20], language="stop")
    splits = {"train": range(20), "valid": range(20, 24)}
    (found,) = findings(path, episodes, splits)
    assert "validation has instructions" in found and "(demo_20)" in found


def test_coverage(path: Path, episodes: list[Episode]) -> None:
    for one in episodes:
        one.actions[:, 0] *= 0.05
        one.obs["pos"][:, 1] *= 1e-4
    episodes[0].obs["pos"][0, 1] = 100.0  # a spike
    narrow, unused = sorted(findings(path, episodes), reverse=True)
    assert "obs/pos: dimension 1 hardly varies" in narrow
    assert "x uses 5 % of [-1, 1]" in unused


def test_demonstrations_pass(tmp_path: Path) -> None:
    generate_dataset(
        "reach",
        40,
        str(tmp_path / "reach.h5"),
        "scripted",
        env_kwargs={"dt": 0.01},
        show_progress=False,
    )
    assert validate_dataset(tmp_path / "reach.h5").findings == []
