"""Cameras are where their poses say, and show what lies before them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import mujoco
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.scene_cameras import View, parse_view, scene_cameras


def axes(model: mujoco.MjModel, name: str) -> Any:
    """Rotation (3, 3) of a fixed camera; its columns are right, up and backward."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, model.camera(name).quat)
    return matrix.reshape(3, 3)


def test_a_camera_is_added_and_another_one_moved() -> None:
    poses = {"side": [0.4, 1.0, 0.2, 0.4, 0.0, 0.2], "front_cam": [0.5, 0, 2, 0.5, 0, 0]}
    env: Any = make_env("reach", cameras=[], camera_poses=poses)
    assert env.model.camera("side").pos.tolist() == [0.4, 1.0, 0.2]
    # it looks along -y with z up: right is -x, up is z, and backward is +y
    np.testing.assert_allclose(
        axes(env.model, "side"), [[-1, 0, 0], [0, 0, 1], [0, 1, 0]], atol=1e-12
    )
    # straight down as the scene's own camera does, with the robot's front up in the image
    down = axes(env.model, "front_cam")
    np.testing.assert_allclose(down, axes(env.model, "overhead_cam"), atol=1e-12)
    assert env.contract.env_config["camera_poses"] == poses
    assert "camera_poses" not in make_env("reach", cameras=[]).contract.env_config  # type: ignore[attr-defined]


def test_the_vector_environment_sees_from_there() -> None:
    poses = {"side": [0.4, 1.0, 0.3, 0.3, 0.0, 0.2]}
    cameras = scene_cameras("reach", ["side:20x10:60"], camera_poses=poses)
    with closing(make_vec_env("reach", 2, cameras=cameras, camera_poses=poses)) as envs:
        obs, _ = envs.reset(seed=0)
        assert obs["image"].shape == (2, 10, 20, 3) and obs["image"].std() > 10
        single: Any = make_env("reach", cameras=cameras, camera_poses=poses)
        own, _ = single.reset(seed=0)
        assert (own["image"] == obs["image"][0]).all()


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        ({"wrist_cam": [1, 0, 1, 0, 0, 0]}, "moves with the body 'hand'"),
        ({"a": [1, 0, 1]}, "pose of the camera 'a'"),
        ({"a": [1, 0, 1, 1, 0, 1]}, "another point"),
        ({"a": [1, 0, float("nan"), 1, 0, 1]}, "pose of the camera 'a'"),
        ({"a": ["x", 0, 1, 1, 0, 1]}, "pose of the camera 'a'"),
    ],
)
def test_what_is_no_pose(poses: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_env("reach", cameras=[], camera_poses=poses)


def test_names_with_size_and_angle() -> None:
    assert parse_view("a") == View("a", None, None)
    assert parse_view("a:96x72") == View("a", (72, 96), None)
    assert parse_view("a:50.5") == View("a", None, 50.5)
    assert parse_view("a:96x72:50") == View("a", (72, 96), 50.0)
    for text in ("a:96", "a:0x5", "a:9y", "a:180", "a:50:96x72"):
        if text == "a:96":
            assert parse_view(text).fov == 96
            continue
        with pytest.raises(UserError, match="wrist_cam:96x72:50"):
            parse_view(text)
    wide, plain = scene_cameras("reach", ["wrist_cam:8x4:100", "front_cam"], 16)
    assert (wide.width, wide.height, wide.fov) == (8, 4, 100.0)
    assert (plain.width, plain.height, plain.fov) == (16, 16, 40.0)
