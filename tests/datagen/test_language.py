"""The sentence that an episode was told stays with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.datagen import generate_dataset, validate_dataset
from simscaleai.storage.episode import LABELS
from simscaleai.storage.episodes import open_dataset


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five noisy demonstrations of reach_color."""
    output = tmp_path_factory.mktemp("labels") / "data.h5"
    generate_dataset(
        "reach_color",
        n_episodes=5,
        output_path=str(output),
        policy_type="scripted",
        domain_randomization=False,
        noise=0.1,
        env_kwargs={"dt": 0.01},
        show_progress=False,
    )
    return output


def test_every_step_has_the_action_of_every_instruction(labeled: Path) -> None:
    assert validate_dataset(labeled).ok
    with open_dataset(labeled) as data:
        instructions = data.contract.instructions
        assert list(instructions) == ["red", "green", "blue"]
        for i, episode in enumerate(data.episodes):
            asked = [episode.language in sentences for sentences in instructions.values()]
            labels, actions = data.read(i, LABELS), data.read(i, "actions")
            assert labels.shape == (episode.length, 3, 4)
            # the action of the episode's own instruction is the one that was recorded
            np.testing.assert_array_equal(labels[:, asked.index(True)], actions)
            for k, color in enumerate(instructions):  # the others lead to the other spheres
                way = data.read(i, f"obs/{color}_pos") - data.read(i, "obs/ee_pos")
                far = np.linalg.norm(way, axis=1) > 0.05
                cosine = (labels[:, k, :3] * way).sum(1) / (
                    np.linalg.norm(labels[:, k, :3], axis=1) * np.linalg.norm(way, axis=1)
                )
                assert cosine[far].min() > 0.5, color


def test_validate_reports_labels_of_another_number(labeled: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.h5"
    shutil.copy(labeled, damaged)
    with h5py.File(damaged, "r+") as file:
        for demo in file["data"].values():
            values = demo[LABELS][:, :2]
            del demo[LABELS]
            demo[LABELS] = values
    (error,) = [e for e in validate_dataset(damaged).errors if LABELS in e]
    assert error == f"{LABELS} has steps of (2, 4); expected 3 instructions x 4 entries"


def test_an_episode_keeps_its_instruction_for_any_batch(tmp_path):
    hashes = set()
    for num_envs in (4, 9):
        output = tmp_path / f"{num_envs}.h5"
        made = generate_dataset(
            "reach_color",
            n_episodes=9,
            output_path=str(output),
            policy_type="scripted",
            domain_randomization=False,
            num_envs=num_envs,
            env_kwargs={"dt": 0.01},
            show_progress=False,
        )
        hashes.add(made["content_hash"])
    assert len(hashes) == 1
    with open_dataset(output) as data:
        told = [episode.language for episode in data.episodes]
        for i, sentence in enumerate(told):
            (color,) = {"red", "green", "blue"} & set(sentence.split())
            goal, hand = data.read(i, f"obs/{color}_pos")[-1], data.read(i, "obs/ee_pos")[-1]
            assert np.linalg.norm(goal - hand) < 0.08  # one step before it was reached
    assert len(set(told)) > 4
