"""Sizes that do not fit into memory are refused in one sentence that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai import memory
from simscaleai.datagen import generate_dataset
from simscaleai.errors import UserError
from simscaleai.memory import out_of_memory, require_memory
from simscaleai.rl.agents.rollout_buffer import RolloutBuffer
from simscaleai.rl.settings import RLConfig
from simscaleai.rl.training import train_agent
from simscaleai.sim import make_vec_env
from simscaleai.tools import cli
from simscaleai.training import TrainConfig
from simscaleai.training.training_run import train_policy

MIB = 2**20


def test_a_container_has_less_than_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/meminfo": ["MemFree: 1 kB", f"MemAvailable:   {8000 * 1024} kB"]}
    monkeypatch.setattr(memory, "_lines", lambda path: files.get(path, []))
    assert memory.free_memory() == 8000 * MIB
    files |= {"/sys/fs/cgroup/memory.max": ["max"]}
    files |= {"/sys/fs/cgroup/memory.stat": [f"anon {100 * MIB}", f"file {900 * MIB}"]}
    assert memory.free_memory() == 8000 * MIB
    files |= {"/sys/fs/cgroup/memory.max": [str(300 * MIB)]}
    assert memory.free_memory() == 200 * MIB
    files.clear()
    assert memory.free_memory() > 0


def test_what_needs_more_than_is_free_is_named() -> None:
    require_memory(1000, "num_envs=1")
    with pytest.raises(
        UserError, match=r"^num_envs=10 needs at least 3 PB of memory, and .* are free"
    ):
        require_memory(3e15, "num_envs=10")


def test_libraries_that_ran_out_of_memory_are_understood() -> None:
    for take in (
        lambda: bytearray(2**60),
        lambda: np.zeros((2**30, 2**30)),
        lambda: torch.empty(2**30, 2**30),
        lambda: torch.empty(2**62, 2**62),
    ):
        with pytest.raises(Exception) as caught:
            take()
        assert out_of_memory(caught.value), caught.value
    assert out_of_memory(ValueError("std::bad_alloc"))
    assert not out_of_memory(ValueError("a defect"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"n_episodes": 10**12}, "n_episodes=1000000000000"),
        ({"max_steps": 10**11}, "An episode of max_steps=100000000000"),
        ({"workers": 10**6, "n_episodes": 10**6}, "workers=1000000"),
        ({"cameras": ["front_cam"], "image_size": 10**6}, "An image of 1000000 x 1000000 pixels"),
    ],
)
def test_data_generation(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{named} needs at least"):
        generate_dataset(output_path=str(tmp_path / "a.h5"), **settings)
    assert list(tmp_path.iterdir()) == []


def test_environments() -> None:
    for n in (10**9, 10**12):
        with pytest.raises(UserError, match=f"^num_envs={n} needs at least"):
            make_vec_env("reach", n)


def test_models(tmp_path: Path) -> None:
    for name, size in (("hidden_dim", 10**9), ("hidden_dim", 10**10), ("hidden_dim", 10**6)):
        config = TrainConfig(
            model_kwargs={name: size}, checkpoint_dir=str(tmp_path), show_progress=False
        )
        with pytest.raises(UserError, match=f"^The model 'bc' with {name}={size} needs"):
            train_policy(config)
    # layers are built one by one: their number is checked before the first is built
    config.model_kwargs = {"n_layers": 1001}
    with pytest.raises(UserError, match=r"^n_layers of the model 'bc' is 1001; at most 1000 is"):
        train_policy(config)
    assert list(tmp_path.iterdir()) == []


def test_reinforcement_learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^n_steps=1000000000 of 2 environments needs at least"):
        RolloutBuffer(10**9, 10, 4, "cpu", 2)
    config = RLConfig(num_envs=2, device="cpu", show_progress=False)
    config.agent["hidden_dim"] = 10**9
    with pytest.raises(UserError, match=r"^A network of hidden_dim=1000000000 needs"):
        train_agent(config)
    config.agent = {"name": "ppo", "n_layers": 10**9}
    with pytest.raises(
        UserError, match=r"^n_layers of the model 'mlp' is 1000000000; at most 1000"
    ):
        train_agent(config)


def test_commands_say_it_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def versions() -> dict[str, str]:
        raise ValueError("std::bad_alloc")

    monkeypatch.setattr("simscaleai.tools.info.versions", versions)
    with pytest.raises(SystemExit) as end:
        cli.main(["info"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "Error: There is not enough memory (std::bad_alloc); use fewer environments or workers, smaller"
        " images, a smaller batch or a smaller model.\n"
    )
