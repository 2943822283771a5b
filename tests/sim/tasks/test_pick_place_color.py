from __future__ import annotations

import numpy as np

from simscaleai.sim import make_vec_env
from simscaleai.sim.tasks.pick_place import HALF_SIZE
from simscaleai.sim.tasks.pick_place_color import GAP


def test_cubes_and_target_start_apart_and_at_rest() -> None:
    envs = make_vec_env("pick_place_color", 200, dt=0.005, autoreset_mode="disabled")
    obs, _ = envs.reset(seed=0)
    keys = ("red_pos", "green_pos", "blue_pos", "target_pos")
    places = np.stack([obs[key] for key in keys], axis=1)
    np.testing.assert_allclose(places[..., 2], HALF_SIZE, atol=1e-6)
    assert np.diff(np.sort(places[..., 1], axis=1), axis=1).min() > GAP - 1e-6
    yaw = 2 * np.arctan2(obs["red_quat"][:, 3], obs["red_quat"][:, 0])
    assert yaw.min() < -2.9 and yaw.max() > 2.9
    for _ in range(5):
        obs, *_, info = envs.step(np.zeros((200, 4)))
    after = np.stack([obs[key] for key in keys], axis=1)
    np.testing.assert_allclose(after, places, rtol=0, atol=2e-4)
    assert not (info["lifted"] | info["wrong"] | info["grasped"]).any()


def test_distances_and_flags_are_those_of_the_wanted_cube() -> None:
    envs = make_vec_env("pick_place_color", 12, dt=0.005, autoreset_mode="disabled")
    obs, info = envs.reset(seed=0)
    cubes = np.stack([obs[f"{c}_pos"] for c in ("red", "green", "blue")], axis=1)
    cube = cubes[np.arange(12), info["wanted"]]
    to_hand = np.linalg.norm(cube - obs["ee_pos"], axis=1)
    to_target = np.linalg.norm(cube - obs["target_pos"], axis=1)
    np.testing.assert_allclose(info["reach_dist"], to_hand, atol=1e-6)
    np.testing.assert_allclose(info["place_dist"], to_target, atol=1e-6)
    for index, position in enumerate(envs.task.positions):  # lift the red, the green, the blue one
        envs.task.begin(envs.sim, np.arange(12))
        envs.sim.qpos[:, position.start + 2] += 0.1
        envs.task.post_step(envs.sim)
        envs.sim.qpos[:, position.start + 2] -= 0.1
        lifted = envs.task.info(envs.sim)
        np.testing.assert_array_equal(lifted["lifted"], info["wanted"] == index)
        np.testing.assert_array_equal(lifted["wrong"], info["wanted"] != index)


def test_the_other_cubes_stay_where_they_are() -> None:
    envs = make_vec_env("pick_place_color", 50, dt=0.005, autoreset_mode="disabled")
    obs, info = envs.reset(seed=0)
    expert, start = envs.task.expert(), obs
    solved = np.zeros(50, bool)
    for _ in range(80):
        obs, _, terminated, _, info = envs.step(expert.act(obs))
        solved |= terminated
    assert solved.mean() >= 0.98
    for index, color in enumerate(("red", "green", "blue")):
        moved = np.linalg.norm(obs[f"{color}_pos"] - start[f"{color}_pos"], axis=1)
        assert moved[info["wanted"] != index].max() < 0.002
        assert moved[(info["wanted"] == index) & solved].min() > 0.07
