from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.tasks.reach_color import GAP, HIGH, LOW, RADIUS


def test_spheres_rest_on_the_table() -> None:
    envs = make_vec_env("reach_color", 500, dt=0.005)
    obs, _ = envs.reset(seed=0)
    spheres = np.stack([obs[f"{c}_pos"] for c in ("red", "green", "blue")], axis=1)
    assert (spheres[..., 2] == np.float32(RADIUS)).all()
    assert (spheres[..., :2] >= LOW - 1e-6).all() and (spheres[..., :2] <= HIGH + 1e-6).all()
    assert np.diff(np.sort(spheres[..., 1], axis=1), axis=1).min() > GAP - 1e-6
    for color in ("red", "green", "blue"):
        assert envs.model.geom(f"{color}_sphere").size[0] == RADIUS


def test_a_sphere_is_reached_from_inside() -> None:
    env = make_env("reach_color", cameras=[], dt=0.005)
    for color in range(3):
        for distance, inside in ((RADIUS - 0.001, True), (RADIUS + 0.001, False)):
            _, info = env.reset(seed=0)
            point = env.data.site("ee").xpos + np.array([distance, 0, 0])
            env.sim.mocap_pos[:, env.task.ids[color]] = point
            _, _, terminated, _, info = env.step(np.zeros(4))
            right = color == info["wanted"]
            assert info["success"] == terminated == (inside and right)
            assert info["wrong"] == (inside and not right)
            if right:
                assert info["distance"] == pytest.approx(distance, abs=1e-4)


def test_the_straight_way_touches_no_other_sphere(run_expert: Any) -> None:
    envs = make_vec_env("reach_color", 300, dt=0.005, autoreset_mode="disabled")
    obs, _ = envs.reset(seed=0)
    result = run_expert(envs, obs, 60)
    assert result["solved"].all() and not result["wrong"].any()
