"""One MjData and a batch of them behind the same arrays."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from simscaleai.sim.batch_sim import BatchSim
from simscaleai.sim.physics import FIELDS, Sim, state_size
from simscaleai.sim.robots.panda import PANDA
from simscaleai.sim.scene import ASSETS, load_model
from simscaleai.sim.single_sim import SingleSim

ALL = np.arange(1)


def sims() -> list[Sim]:
    single, batch = (load_model(ASSETS / "pick_place.xml", 0.005, PANDA) for _ in range(2))
    made = [SingleSim(single, mujoco.MjData(single)), BatchSim(batch, 1, 1)]
    for sim in made:
        sim.reset(ALL)
        sim.qpos[:, 3] = -1.5
        sim.forward(ALL)
    return made


@pytest.mark.parametrize("which", [0, 1], ids=["single", "batch"])
def test_derived_fields_are_those_of_the_present_state(which: int) -> None:
    sim = sims()[which]
    rng = np.random.default_rng(0)
    for _ in range(4):
        sim.ctrl[:, :7] = rng.uniform(-1, 1, 7)
        sim.step(10)
        fresh = mujoco.MjData(sim.model)
        fresh.qpos[:], fresh.qvel[:] = sim.qpos[0], sim.qvel[0]
        mujoco.mj_forward(sim.model, fresh)
        for name in ("site_xpos", "site_xmat", "xaxis", "xanchor"):
            np.testing.assert_array_equal(getattr(sim, name)[0], getattr(fresh, name))


def test_both_have_the_same_fields_and_move_alike() -> None:
    single, batch = sims()
    rng = np.random.default_rng(0)
    for _ in range(10):
        ctrl = rng.uniform(-1, 1, 8)
        for sim in (single, batch):
            sim.ctrl[:] = ctrl
            sim.step(10)
        for name in FIELDS:
            a, b = getattr(single, name), getattr(batch, name)
            assert a.shape == b.shape and len(a) == 1, name
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(single.states(), batch.states())
    assert single.states().shape == (1, state_size(single.model))


def test_states_are_time_positions_velocities_and_mocap() -> None:
    for sim in sims():
        sim.mocap_pos[:] = (0.1, 0.2, 0.3)
        sim.step(4)
        parts = (
            [4 * 0.005],
            sim.qpos[0],
            sim.qvel[0],
            sim.mocap_pos[0].ravel(),
            sim.mocap_quat[0].ravel(),
        )
        np.testing.assert_allclose(sim.states()[0], np.concatenate(parts), atol=1e-15)
        kept = sim.states()
        copy = kept.copy()
        sim.step(4)
        np.testing.assert_array_equal(kept, copy)  # a copy, not a view
        sim.load_states(copy)
        np.testing.assert_array_equal(sim.states(), copy)


def test_only_the_given_rows_move() -> None:
    sim = BatchSim(load_model(ASSETS / "reach.xml", 0.005, PANDA), 4, 2)
    sim.reset(np.arange(4))
    sim.forward(np.arange(4))
    start = sim.states()
    sim.ctrl[:, :7] = 0.3
    sim.step(10, np.array([1, 3]))
    moved = (sim.states() != start).any(axis=1)
    assert moved.tolist() == [False, True, False, True]
    sim.reset(np.array([3]))
    assert (sim.states() != start).any(axis=1).tolist() == [False, True, False, False]


def test_parameters_belong_to_their_row() -> None:
    sim = BatchSim(load_model(ASSETS / "pick_place.xml", 0.005, PANDA), 2, 1)
    body = sim.model.body("object").id
    mass = sim.parameter("body_mass")
    mass[1, body] *= 2
    sim.set_const(np.array([1]))
    assert sim.batch.get_model(0).body_mass[body] == pytest.approx(0.05)
    assert sim.batch.get_model(1).body_mass[body] == pytest.approx(0.10)
    assert sim.model.body_mass[body] == pytest.approx(0.05)
