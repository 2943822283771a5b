"""Policies by name, functions of the user's own among them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simscaleai.datagen import generate_dataset
from simscaleai.errors import UserError
from simscaleai.policy import RandomPolicy
from simscaleai.rollout.policies import make_policy, policy_sha256, resolve_policy
from simscaleai.rollout.policy_environment import policy_environment
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.sim import make_env, make_vec_env
from simscaleai.storage.episodes import open_dataset

MODULE = """
import numpy as np

def toward(obs):
    move = np.clip(20 * (obs["target_pos"] - obs["ee_pos"]), -1, 1)
    return np.concatenate([move, np.ones((len(move), 1))], axis=1)  # float64

class Listener:
    def reset(self, mask, seeds, instructions):
        self.instructions = list(instructions)

    def act(self, obs):
        return np.zeros((len(obs["ee_pos"]), 4), np.float32)

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> str:
    """The name of a module in the working directory, imported by nothing yet."""
    name = f"own_policies_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_names_of_the_package() -> None:
    env = make_vec_env("reach", 2)
    assert isinstance(make_policy("random", env), RandomPolicy)
    assert type(make_policy("scripted", env)) is type(env.task.expert())  # type: ignore[attr-defined]
    assert (policy_sha256("random"), policy_sha256("scripted")) == ("", "")


@pytest.mark.slow
def test_a_function_drives_a_dataset_by_any_number_of_workers(module: str, tmp_path: Path) -> None:
    name = f"{module}:toward"
    hashes = []
    for workers in (1, 2):
        path = tmp_path / f"{workers}.h5"
        given: Any = {"policy_type": name, "workers": workers, "show_progress": False}
        found = generate_dataset("reach", 4, str(path), **given)
        assert found["success_rate"] == 1.0
        hashes.append(found["content_hash"])
    assert hashes[0] == hashes[1]
    with open_dataset(path) as data:
        assert data.read(0, "actions").dtype == np.float32


def test_a_class_gets_instructions(module: str) -> None:
    policy: Any = make_policy(f"{module}:Listener", make_vec_env("reach_color", 2))
    policy.reset(np.ones(2, bool), [0, 1], ["a", "b"])
    assert policy.instructions == ["a", "b"]


def test_the_source_of_a_function_is_what_identifies_it(module: str, tmp_path: Path) -> None:
    before = policy_sha256(f"{module}:toward")
    file = tmp_path / f"{module}.py"
    file.write_text(file.read_text() + "\nmore = 1\n")
    assert len(before) == 64 and policy_sha256(f"{module}:toward") != before


def test_the_environment_of_a_function(module: str) -> None:
    source = find_policy_source(f"{module}:toward", "pick_place")
    assert (source.env_name, source.title) == ("pick_place", f"{module}:toward")
    assert source.config.cameras == [] and not source.config.domain_randomization


def test_the_robot_of_an_environment_is_that_of_the_data_unless_named() -> None:
    contract = make_env("reach", robot="ur5e", cameras=[]).contract
    assert policy_environment(contract)[1].robot == "ur5e"
    assert policy_environment(contract, robot="panda")[1].robot == "panda"
    assert find_policy_source("scripted", "reach").config.robot == "panda"
    assert find_policy_source("scripted", "reach", robot="ur5e").config.robot == "ur5e"


def test_what_cannot_be_found(module: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no module 'no_such_thing'"):
        resolve_policy("no_such_thing:act")
    with pytest.raises(UserError, match=r"'tward'.*Did you mean 'toward'"):
        resolve_policy(f"{module}:tward")
    with pytest.raises(UserError, match=r"is of type int; give a function"):
        make_policy(f"{module}:number", make_vec_env("reach", 1))
    (tmp_path / "needs_more.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):  # is not ours to explain
        resolve_policy("needs_more:act")
    with pytest.raises(UserError, match=r"Unknown policy 'nobody': give 'random'.*module:function"):
        resolve_policy("nobody")


def test_torch_is_loaded_for_checkpoints_alone(module: str) -> None:
    code = (
        "import sys; from simscaleai.rollout.policies import *; from simscaleai.sim import make_vec_env;"
        f"make_policy('{module}:toward', make_vec_env('reach', 1)); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
