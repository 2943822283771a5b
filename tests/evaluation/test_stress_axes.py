"""Axes of stress: at level 0 nothing changes, bit by bit; above it exactly one thing does."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation.stress_axes import AXES, find_axes
from simscaleai.evaluation.stress_core import perturb
from simscaleai.evaluation.stress_scene import initial_places, placed_bodies
from simscaleai.sim import make_vec_env
from simscaleai.sim.base_env import CameraConfig

SEEDS = [11, 12, 13]
CAMERAS = [CameraConfig("wrist_cam", 24, 24), CameraConfig("front_cam", 24, 24)]
LOOKS = ("camera", "light", "colors", "image")  # axes that only images show


def make(axis: str = "", level: float = 0.0, name: str = "pick_place_color", **given: Any) -> Any:
    settings = {"autoreset_mode": "disabled", "dt": 0.01, "cameras": CAMERAS, **given}
    env = make_vec_env(name, len(SEEDS), **settings)
    if axis:
        perturb(env, AXES[axis].perturbation(level))
    return env


def play(env: Any, steps: int = 6, seeds: list[int] = SEEDS) -> list[Any]:
    """All that an environment gives for the same actions, with an episode that begins in the middle."""
    rng = np.random.default_rng(0)
    found: list[Any] = [env.reset(seed=seeds)]
    found.append([env.instruction(i) for i in range(3)])
    for k in range(steps):
        if k == 3:
            mask = np.array([False, True, False])
            found.append(env.reset(seed=[0, 99, 0], options={"reset_mask": mask}))
        found.append(env.step(rng.uniform(-1, 1, (3, 4)).astype(np.float32)))
    found.append(env.states())
    return found


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        # equal bits: also of NaN, and of the sign of 0
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return bool(a == b)


@pytest.fixture(scope="module")
def plain() -> dict[bool, list[Any]]:
    """Episodes without a perturbation, with images and without."""
    return {True: play(make()), False: play(make(cameras=[]))}


def with_axis(axis: str, level: float) -> Any:
    """An environment that is perturbed; with images, which take time, where only they show it."""
    return make(axis, level, cameras=CAMERAS if axis in LOOKS else [])


@pytest.mark.parametrize("axis", AXES)
def test_level_0_changes_nothing(axis: str, plain: dict[bool, list[Any]]) -> None:
    assert same(play(with_axis(axis, 0.0)), plain[axis in LOOKS])


@pytest.mark.parametrize("axis", AXES)
def test_other_levels_change_something(axis: str, plain: dict[bool, list[Any]]) -> None:
    level = AXES[axis].levels[-1] if AXES[axis].levels else 2
    env = with_axis(axis, level)
    changed = play(env)
    assert not same(changed, plain[axis in LOOKS])
    # a function of the seed: the same again, whatever ran before, and in another env
    assert same(play(env), changed)
    obs, _ = env.reset(seed=SEEDS)
    other, _ = env.reset(seed=SEEDS[::-1])
    assert all(same(obs[key], other[key][::-1].copy()) for key in obs)


@pytest.mark.parametrize("axis", LOOKS)
def test_axes_of_looks_leave_the_physics_alone(axis: str, plain: dict[bool, list[Any]]) -> None:
    changed, unchanged = play(make(axis, AXES[axis].levels[-1])), plain[True]
    assert same(changed[-1], unchanged[-1])
    before, after = unchanged[0][0], changed[0][0]
    for key in before:
        assert same(before[key], after[key]) != key.startswith("image")
    assert same(after["image"], after["images/wrist_cam"])


@pytest.mark.parametrize("axis", AXES)
def test_level_0_on_top_of_randomization(axis: str) -> None:
    given = {"domain_randomization": True, "cameras": []}
    wanted = play(make(**given), steps=2)
    assert same(play(make(axis, 0.0, **given), steps=2), wanted)


def test_placement_is_outside_the_range() -> None:
    env = make("placement", 0.5, "pick_place", cameras=[])
    env.reset(seed=SEEDS)
    core = env.core
    bodies = placed_bodies(core)
    assert [env.model.body(b).name for b in bodies] == ["object", "target"]
    places = np.concatenate([initial_places(core, body) for body in bodies])
    center, half = (places.max(0) + places.min(0)) / 2, np.ptp(places, axis=0) / 2
    now = np.stack([env.sim.qpos[:, env.task.position][:, :2], env.sim.mocap_pos[:, 0, :2]], axis=1)
    outermost = abs((now - center) / half).max(axis=(1, 2))
    assert outermost == pytest.approx([1.5] * 3)
    # heights stay, and the cube still rests on the table
    assert env.sim.qpos[:, env.task.position][:, 2] == pytest.approx(0.02)


def test_latents_are_not_placed() -> None:
    core = make(cameras=[]).core
    names = [core.sim.model.body(b).name for b in placed_bodies(core)]
    assert names == ["red_cube", "green_cube", "blue_cube", "target"]


def test_numbers_of_the_model() -> None:
    env = make(name="pick_place", cameras=[])
    nominal = {name: getattr(env.model, name).copy() for name in ("body_mass", "pair_friction")}
    cube = env.model.body("object").id
    for axis, level, field, factor in (
        ("mass", 2, "body_mass", 4.0),
        ("friction", 1, "pair_friction", 0.5),
    ):
        env = make(axis, level, "pick_place", cameras=[])
        for _ in range(2):  # and not again on top in the next episode
            env.reset(seed=SEEDS)
            values = env.sim.parameter(field)
            if axis == "mass":
                assert values[:, cube] == pytest.approx(nominal[field][cube] * factor)
                others = np.delete(values[0], cube)
                assert np.array_equal(others, np.delete(nominal[field], cube))
            else:
                assert values[0, :, :2] == pytest.approx(nominal[field][:, :2] * factor)


def test_actions_come_late() -> None:
    sent = np.random.default_rng(1).uniform(-1, 1, (5, 3, 4)).astype(np.float32)
    late, prompt = make("action-delay", 2, cameras=[]), make(cameras=[])
    late.reset(seed=SEEDS)
    prompt.reset(seed=SEEDS)
    for k in range(5):
        obs, *_ = late.step(sent[k])
        expected, *_ = prompt.step(sent[k - 2] if k >= 2 else np.zeros((3, 4)))
        assert all(same(obs[key], expected[key]) for key in obs)


def test_noise_has_its_size() -> None:
    noisy, clean = make("sensor-noise", 0.01, cameras=[]), make(cameras=[])
    differences = []
    for seed in range(0, 300, 3):
        a, _ = noisy.reset(seed=[seed, seed + 1, seed + 2])
        b, _ = clean.reset(seed=[seed, seed + 1, seed + 2])
        differences.append(np.concatenate([(a[key] - b[key]).ravel() for key in sorted(a)]))
    assert np.std(differences) == pytest.approx(0.01, rel=0.02)
    assert abs(np.mean(differences)) < 0.0005


def test_words() -> None:
    def instructions(level: float) -> list[str]:
        env = make("wording", level, cameras=[])
        env.reset(seed=SEEDS)
        return [env.instruction(i) for i in range(3)]

    held_out = make(cameras=[])
    held_out.task.use_phrasings("held_out")
    held_out.reset(seed=SEEDS)
    assert instructions(1) == [held_out.instruction(i) for i in range(3)] != instructions(0)
    for typed, right in zip(instructions(2), instructions(1), strict=True):
        assert typed != right and sorted(typed) == sorted(right)
        assert [w for w in typed.split() if w in ("red", "green", "blue")] == [
            w for w in right.split() if w in ("red", "green", "blue")
        ]


def test_counterfactual_asks_the_same_scene() -> None:
    for level, color in enumerate(("red", "green", "blue"), start=1):
        env = make("counterfactual", level, cameras=[])
        obs, _ = env.reset(seed=SEEDS)
        assert all(color in env.instruction(i) for i in range(3))
        as_drawn, _ = make(cameras=[]).reset(seed=SEEDS)
        assert all(same(obs[key], as_drawn[key]) for key in obs)
    with pytest.raises(
        UserError, match=r"has 3 requests \(red, green, blue\), and none of number 4"
    ):
        make("counterfactual", 4, cameras=[])


def test_levels_and_names() -> None:
    assert [axis.name for axis in find_axes(["mass", "camera", "mass"])] == ["mass", "camera"]
    assert len(find_axes([])) == len(AXES)
    with pytest.raises(UserError, match="Did you mean 'camera'"):
        find_axes(["camra"])
    assert AXES["mass"].check_levels((2.0, 1.0, 2.0)) == (1.0, 2.0)
    for axis, level in (("mass", 0.0), ("mass", -1.0), ("mass", np.nan), ("action-delay", 1.5)):
        with pytest.raises(UserError, match=f"Levels of '{axis}' are"):
            AXES[axis].check_levels((level,))
    assert all(axis.description.endswith(".") for axis in AXES.values())


def test_cameras_move_and_turn_as_far_as_they_say() -> None:
    env = make("camera", 0.05)
    env.reset(seed=SEEDS)
    model, moved = env.model, env.sim.parameter("cam_pos") - env.model.cam_pos
    used = [model.camera(c.name).id for c in CAMERAS]
    assert np.linalg.norm(moved[:, used], axis=-1) == pytest.approx(np.full((3, 2), 0.05))
    for env_id in range(3):
        for camera in used:
            turn, quat = np.empty(3), env.sim.parameter("cam_quat")[env_id, camera]
            mujoco.mju_subQuat(turn, quat, model.cam_quat[camera])  # rad, about its axis
            assert np.degrees(np.linalg.norm(turn)) == pytest.approx(5.0)
    others = np.setdiff1d(np.arange(model.ncam), used)
    assert not moved[:, others].any()
