"""Paths of the gripper are those of the episodes that were counted."""

from __future__ import annotations

import numpy as np

from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
from simscaleai.evaluation.path_recorder import PathRecorder
from simscaleai.evaluation.suite import episode_seed
from simscaleai.sim import make_env


def test_each_episode_has_its_path() -> None:
    settings = SourceEvaluation(n_episodes=5, env_name="reach", num_envs=2, show_progress=False)
    paths = PathRecorder()
    found = evaluate_source("scripted", settings, [paths])
    assert len(paths.paths) == 5
    for episode in found["episodes"]:
        path = paths.paths[episode["seed"], episode["instruction"]]
        assert path.shape == (episode["length"] + 1, 2) and path.dtype == np.float32
    # the same episode in an environment of its own
    env = make_env("reach", cameras=[])
    expert = env.task.expert()
    obs, _ = env.reset(seed=episode_seed(0, 3))
    expert.reset(np.ones(1, dtype=bool), [0])
    wanted = [obs["ee_pos"][:2]]
    for _ in range(found["episodes"][3]["length"]):
        obs, *_ = env.step(expert.act({key: value[None] for key, value in obs.items()})[0])
        wanted.append(obs["ee_pos"][:2])
    third = found["episodes"][3]
    np.testing.assert_array_equal(
        paths.paths[third["seed"], third["instruction"]], np.float32(wanted)
    )


def test_no_more_than_asked_for() -> None:
    settings = SourceEvaluation(n_episodes=4, env_name="reach", show_progress=False)
    paths = PathRecorder(max_episodes=2)
    evaluate_source("scripted", settings, [paths])
    assert len(paths.paths) == 2
