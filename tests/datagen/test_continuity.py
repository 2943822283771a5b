"""States that do not follow from one another are found, and blows and throws are not taken for that."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.contract import EnvContract
from simscaleai.datagen import generate_dataset, validate_dataset
from simscaleai.datagen.continuity import Continuity


@pytest.mark.parametrize("policy", ["scripted", "random"])
def test_what_we_generate_follows(tmp_path: Path, policy: str) -> None:
    path = tmp_path / "d.h5"
    settings = {"env_kwargs": {"dt": 0.01}, "max_steps": 40, "randomize": "heavy"}
    generate_dataset("pick_place", 6, str(path), policy, noise=0.5, **settings)
    report = validate_dataset(path)
    assert report.ok and not any("jump" in text for text in report.warnings)


def test_a_state_that_jumps(tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    generate_dataset("reach", 2, str(path), env_kwargs={"dt": 0.01}, max_steps=10)
    with h5py.File(path, "r+") as file:
        file["data/demo_1/states"][5:, 4] += 1.0  # rad
    found = [text for text in validate_dataset(path).warnings if "states jump" in text]
    assert found == [
        "states jump: a joint moves further in one step than its speed explains (demo_1)"
    ]


def contract(name: str, **config: str) -> EnvContract:
    return EnvContract(name, config, {}, {}, 4, 0.05)


def test_joints_and_their_speeds() -> None:
    joints = Continuity(contract("pick_place"))
    states = np.zeros((2, 1 + 16 + 15 + 7))  # 7 joints, 2 fingers and a free cube; one mocap body
    assert not joints.jumps(states)
    for position, velocity in ((1, 17), (7, 23), (9, 25), (10, 26), (12, 28)):
        moved = states.copy()
        moved[1, position] = 0.5
        assert joints.jumps(moved)
        moved[0, velocity] = 2.0
        assert not joints.jumps(moved)
    turned = states.copy()
    turned[1, 13:17] = 1.0  # the cube's orientation has no velocity of its own kind
    assert not joints.jumps(turned)


def test_joints_of_the_robot_that_the_contract_names() -> None:
    joints = Continuity(contract("pick_place", robot="ur5e"))
    states = np.zeros((2, 1 + 15 + 14 + 7))  # 6 joints, 2 fingers and a free cube; one mocap body
    states[1, 6] = 0.5
    assert joints.jumps(states)
    assert not Continuity(contract("pick_place", robot="unknown")).jumps(states)


def test_what_is_not_known_is_not_judged() -> None:
    states = np.arange(12.0).reshape(3, 4)[::-1]
    for known in (None, contract("unknown"), contract("reach", xml_path="a.xml")):
        assert not Continuity(known).jumps(states)
    assert Continuity(None).error(states) is None
    assert "runs back" in (Continuity(contract("unknown")).error(states) or "")
