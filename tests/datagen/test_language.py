"""The sentence that an episode was told stays with it."""

from __future__ import annotations

import numpy as np

from simscaleai.datagen import generate_dataset
from simscaleai.storage.episodes import open_dataset


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
            env_kwargs={"dt": 0.005},
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
