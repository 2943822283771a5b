"""Domain randomization: what is drawn, where it goes, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from simscaleai.sim import SimConfig, make_env, make_vec_env
from simscaleai.sim.parameters import LIGHTS, GeomsOf, Parameter, Selection, Target
from simscaleai.sim.randomization import LEVELS
from simscaleai.sim.robots.panda import PANDA
from simscaleai.sim.scene import ASSETS
from simscaleai.sim.task_env import TaskEnv
from simscaleai.sim.tasks.pick_place import PickPlace

FAST: dict[str, Any] = {"cameras": [], "dt": 0.005}
PARAMETERS = make_env("pick_place", **FAST).task.parameters
WIDTHS = {p.name: np.array(p.width) for p in PARAMETERS}


def image(model: mujoco.MjModel) -> bytes:
    """Every number of a model."""
    buffer = np.empty(mujoco.mj_sizeModel(model), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def randomized(level: str = "default", **settings: Any) -> Any:
    return make_env(
        "pick_place", domain_randomization=True, randomization_level=level, **{**FAST, **settings}
    )


def test_off_leaves_the_model_untouched() -> None:
    env = make_env("pick_place", **FAST)
    before = image(env.model)
    for _ in range(3):
        _, info = env.reset(seed=0)
        env.step(np.zeros(4))
    assert image(env.model) == before and "randomization" not in info
    envs = make_vec_env("pick_place", 2, dt=0.005)
    envs.reset(seed=0)
    envs.step(np.zeros((2, 4)))
    assert image(envs.model) == before
    assert image(envs.sim.batch.get_model(1)) == before


@pytest.mark.parametrize("level", sorted(LEVELS))
def test_draws_are_in_info_and_fill_the_levels_width(level: str) -> None:
    envs = make_vec_env(
        "pick_place", 200, dt=0.005, domain_randomization=True, randomization_level=level
    )
    _, info = envs.reset(seed=0)
    assert set(info["randomization"]) == set(WIDTHS)
    for name, draws in info["randomization"].items():
        width = LEVELS[level] * WIDTHS[name]
        assert draws.shape == (200, len(width))
        assert (np.abs(draws) <= width).all()
        # 200 uniform draws leave a tenth of the range empty once in 10^9 times
        assert (draws.max(axis=0) > 0.8 * width).all() and (draws.min(axis=0) < -0.8 * width).all()


def test_levels_grow() -> None:
    assert 0 < LEVELS["light"] < LEVELS["default"] < LEVELS["heavy"]
    # the same uniform numbers, spread further
    drawn = [randomized(level).reset(seed=3)[1]["randomization"] for level in LEVELS]
    for name in WIDTHS:
        light, default, heavy = (np.abs(draws[name]) for draws in drawn)
        assert (light < default).all() and (default < heavy).all()


def test_the_same_seed_draws_the_same() -> None:
    env, other = randomized(), randomized()
    for _ in range(3):
        env.reset(seed=8)
    draws = [env.reset(seed=seed)[1]["randomization"] for seed in (5, None, 5)]
    again = other.reset(seed=5)[1]["randomization"]
    for name in WIDTHS:
        np.testing.assert_array_equal(draws[0][name], draws[2][name])
        np.testing.assert_array_equal(draws[0][name], again[name])
        assert (draws[0][name] != draws[1][name]).all()


SELECTED = {  # in the scene of pick_place
    "light": ("key", "fill"),
    "pair": ("left_grip", "right_grip"),
    "geom": ("object",),
    "body": ("object",),
}


def elements(model: mujoco.MjModel, target: Target) -> tuple[Any, ...]:
    """Index of a target's elements in its model field, independent of the code under test."""
    kinds = {"body": "body", "geom": "geom", "pair": "pair", "light": "light", "mat": "material"}
    prefix = target.field.split("_")[0]
    names = SELECTED[prefix] if isinstance(target.names, Selection | GeomsOf) else target.names
    if prefix == "dof":
        rows = [int(model.joint(name).dofadr[0]) for name in names]
    elif prefix == "actuator":
        rows = [model.actuator(name).id for name in names]
    else:
        enum = getattr(mujoco.mjtObj, f"mjOBJ_{kinds[prefix].upper()}")
        rows = [mujoco.mj_name2id(model, enum, name) for name in names]
    assert rows and min(rows) >= 0, target
    if getattr(model, target.field).ndim == 1:
        return (rows,)
    columns = target.columns or range(getattr(model, target.field).shape[1])
    return np.ix_(rows, list(columns))


def model_targets() -> Iterator[tuple[Parameter, Target]]:
    for parameter in PARAMETERS:
        for target in parameter.targets:
            if target.field != "qpos":
                yield parameter, target


def test_the_model_is_nominal_changed_by_this_episodes_draws() -> None:
    env, nominal = randomized("heavy"), make_env("pick_place", **FAST).model
    for _ in range(20):  # draws do not pile up
        _, info = env.reset()
    draws = info["randomization"]
    expected: dict[str, np.ndarray] = {}
    for parameter, target in model_targets():
        field = expected.setdefault(target.field, getattr(nominal, target.field).copy())
        at, draw = elements(nominal, target), draws[parameter.name]
        if parameter.mode == "scale":
            field[at] *= (1 + draw[0]) ** target.power
        else:
            field[at] += draw
    for name, field in expected.items():
        if name.endswith("rgba"):
            field = np.clip(field, 0, 1)
        np.testing.assert_allclose(getattr(env.model, name), field, rtol=1e-6, atol=1e-7)
        assert not np.array_equal(field, getattr(nominal, name)), name


def test_physics_scales_by_the_draw() -> None:
    """The promises of the table in docs/simulation.md, by hand for one episode."""
    env = randomized("heavy")
    _, info = env.reset(seed=1)
    draw = {name: value[0] for name, value in info["randomization"].items()}
    model, nominal = env.model, make_env("pick_place", **FAST).model
    assert model.body("object").mass[0] == pytest.approx(0.05 * (1 + draw["object_mass"]))
    side = 0.02 * (1 + draw["object_size"])
    np.testing.assert_allclose(model.geom("object").size, side)
    # a cube's: mass x side^2 / 6
    inertia = 0.05 * (1 + draw["object_mass"]) * (2 * side) ** 2 / 6
    np.testing.assert_allclose(model.body("object").inertia, inertia, rtol=1e-6)
    for pair in ("left_grip", "right_grip"):
        np.testing.assert_allclose(
            model.pair(pair).friction[:2], nominal.pair(pair).friction[:2] * (1 + draw["friction"])
        )
    for i, kp in enumerate((2000, 2000, 1200, 1200, 600, 600, 600)):
        gain = kp * (1 + draw["actuator_gain"])
        assert model.actuator_gainprm[i, 0] == pytest.approx(gain)
        assert model.actuator_biasprm[i, 1] == pytest.approx(-gain)  # or zero error would push
    assert env.data.qpos[env.task.position][2] == pytest.approx(side)  # rests on the table


@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_derived_constants_follow(batch: bool) -> None:
    if batch:
        envs = make_vec_env(
            "pick_place", 2, dt=0.005, domain_randomization=True, randomization_level="heavy"
        )
        _, info = envs.reset(seed=2)
        model = envs.sim.batch.get_model(1)
        draw = {name: value[1, 0] for name, value in info["randomization"].items()}
    else:
        env = randomized("heavy")
        _, info = env.reset(seed=3)
        model, draw = env.model, {k: v[0] for k, v in info["randomization"].items()}
    nominal = make_env("pick_place", **FAST).model
    body, geom = nominal.body("object").id, nominal.geom("object").id
    # inverse weight of a free body: 1 / mass; bounding sphere of a cube: sqrt(3) x half its side
    np.testing.assert_allclose(
        model.body_invweight0[body, 0],
        nominal.body_invweight0[body, 0] / (1 + draw["object_mass"]),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        model.geom_rbound[geom], np.sqrt(3) * 0.02 * (1 + draw["object_size"]), rtol=1e-6
    )


def test_where_things_start_differs_by_the_state_parameters_alone() -> None:
    nominal, env = make_env("pick_place", **FAST), randomized("heavy")
    for seed in range(5):
        nominal.reset(seed=seed)
        _, info = env.reset(seed=seed)
        draws = info["randomization"]
        expected = nominal.data.qpos.copy()
        expected[env.task.controller.qpos] += draws["arm_posture"][0]
        expected[env.task.position] += [*draws["object_position"], 0.02 * draws["object_size"][0]]
        np.testing.assert_allclose(env.data.qpos, expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(env.data.mocap_pos, nominal.data.mocap_pos)


def test_all_cubes_are_moved_and_made_alike() -> None:
    nominal, env = (
        make_env(
            "pick_place_color", domain_randomization=heavy, randomization_level="heavy", **FAST
        )
        for heavy in (False, True)
    )
    nominal.reset(seed=0)
    _, info = env.reset(seed=0)
    draws = info["randomization"]
    for name, position in zip(env.task.free_bodies, env.task.positions, strict=True):
        moved = env.data.qpos[position] - nominal.data.qpos[position]
        expected = [*draws["object_position"], 0.02 * draws["object_size"][0]]
        np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-12)
        mass = [e.model.body(name).mass[0] for e in (nominal, env)]
        assert mass[1] == pytest.approx(mass[0] * (1 + draws["object_mass"][0]))
    friction = [e.model.pair_friction[:, 0] for e in (nominal, env)]
    np.testing.assert_allclose(friction[1], friction[0] * (1 + draws["friction"][0]))
    assert len(friction[0]) == 6


def test_every_joint_stays_within_its_range() -> None:
    envs = make_vec_env(
        "pick_place", 100, dt=0.005, domain_randomization=True, randomization_level="heavy"
    )
    envs.reset(seed=0)
    low, high = envs.model.jnt_range[: len(PANDA.arm_joints)].T
    arm = envs.sim.qpos[:, envs.task.controller.qpos]
    assert ((arm > low) & (arm < high)).all()


def test_a_scene_takes_the_parameters_it_has() -> None:
    _, info = make_env("reach", domain_randomization=True, **FAST).reset(seed=0)
    assert "joint_damping" in info["randomization"]
    assert not {"friction", "object_mass", "object_size"} & set(info["randomization"])


@pytest.mark.parametrize("level", ["default", "heavy"])
def test_the_expert_copes(level: str, run_expert: Any) -> None:
    envs = make_vec_env(
        "pick_place",
        50,
        dt=0.005,
        domain_randomization=True,
        randomization_level=level,
        autoreset_mode="disabled",
    )
    obs, _ = envs.reset(seed=100)
    solved = run_expert(envs, obs, 200)["solved"]
    assert solved.sum() >= {"default": 47, "heavy": 40}[level]


def test_objects_of_a_users_scene_are_randomized(tmp_path: Path) -> None:
    """By what they are, not by name: things that move and are no part of the robot."""
    scene = tmp_path / "puck.xml"
    scene.write_text("""<mujoco><include file="panda.xml"/><include file="scene.xml"/><worldbody>
        <body name="target" mocap="true"><geom type="sphere" size="0.02" contype="0" conaffinity="0"/></body>
        <body name="puck" pos="0.5 0 0.03"><joint type="slide" axis="1 0 0"/>
          <geom name="puck" type="cylinder" size="0.03 0.02" contype="1" conaffinity="3"/></body>
        <light name="mine" pos="0 0 3"/></worldbody></mujoco>""")
    env = make_env("reach", domain_randomization=True, xml_path=str(scene), **FAST)
    model = env.model
    before = {
        name: getattr(model, name).copy() for name in ("geom_friction", "body_mass", "light_pos")
    }
    draws = env.reset(seed=0)[1]["randomization"]
    puck = model.geom("puck").id
    changed = np.flatnonzero((model.geom_friction != before["geom_friction"]).any(axis=1))
    assert changed.tolist() == [puck]
    assert np.flatnonzero(model.body_mass != before["body_mass"]).tolist() == [
        model.body("puck").id
    ]
    assert model.body("puck").mass == pytest.approx(
        before["body_mass"][model.body("puck").id] * (1 + draws["object_mass"][0])
    )
    assert (model.light_pos != before["light_pos"]).any(axis=1).all() and model.nlight == 3


def test_a_users_task_has_all_parameters_by_what_it_declares(tmp_path: Path) -> None:
    """Its cube goes by another name, and so do size and position."""

    class Push(PickPlace):
        name = "push"
        free_bodies = ("puck",)

    scene = tmp_path / "push.xml"
    text = (ASSETS / "pick_place.xml").read_text()
    scene.write_text(text.replace('name="object"', 'name="puck"').replace('"object"', '"puck"'))
    config = SimConfig(cameras=[], xml_path=str(scene), domain_randomization=True)
    _, info = TaskEnv(config, task_class=Push).reset(seed=0)
    assert set(info["randomization"]) == set(WIDTHS)


@pytest.mark.parametrize(
    ("target", "mentions"),
    [
        (Target("geom_rgba", ("cubes",)), ("geom", "'cubes'", "object")),
        (Target("body_mass", ("cube",)), ("body", "'cube'", "object")),
        (Target("qpos", ("cube",), (0,)), ("joint", "'cube'", "object")),
        (Target("geom_size", GeomsOf(("cube",))), ("body", "'cube'")),
        (Target("geom_color", ("object",)), ("geom_color", "geom_")),
    ],
)
def test_an_unknown_name_is_an_error(
    target: Target, mentions: tuple[str, ...], refused: Any
) -> None:
    class Own(PickPlace):
        name = "own"
        randomization = (Parameter("mine", "scale", (0.1,), (target,)),)

    config = SimConfig(cameras=[], domain_randomization=True)
    refused(lambda: TaskEnv(config, task_class=Own), "'mine'", *mentions)


def test_a_parameter_is_declared_once(refused: Any) -> None:
    class Own(PickPlace):
        name = "own"
        randomization = LIGHTS

    config = SimConfig(cameras=[], domain_randomization=True)
    refused(lambda: TaskEnv(config, task_class=Own), "light_brightness", "twice")
