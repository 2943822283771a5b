"""Weights and the module that they are for: compared before the memory that a file declares is taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.fitting import build_for, require_fit
from simscaleai.models.policy import ModelPolicy, describe
from simscaleai.models.registry import list_models
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.storage.checkpoint import load_checkpoint, save_checkpoint
from simscaleai.storage.pretrained import save_pretrained

LARGE = {
    "width": {"hidden_dim": 100_000},
    "layers": {"n_layers": 10**9},
    "state": {"state_dim": 10**9},
    "actions": {"action_dim": 2**40},
}


def peak() -> int:
    """The most memory that this process has had, in MiB, since it was last forgotten."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) // 1024


@pytest.fixture
def no_memory() -> Any:
    if not Path("/proc/self/clear_refs").exists():
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    yield
    assert peak() - before < 200


def save(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A checkpoint of a small policy whose description was changed."""
    model = create_model("bc", state_dim=5, hidden_dim=16, n_layers=2)
    about = describe(ModelPolicy(model, ObsSpec({"x": (5,)}, {"x": "float32"})))
    weights = {f"model.{k}": v for k, v in model.state_dict().items()}
    change(about)
    if path.suffix:
        return save_checkpoint(path, {"policy": about, "weights": weights})
    return save_pretrained(path, about, weights)


@pytest.mark.parametrize("name", ["evil.pt", "evil"])
@pytest.mark.parametrize("kwargs", LARGE.values(), ids=LARGE)
def test_large_models_with_small_weights(
    tmp_path: Path, kwargs: dict[str, int], name: str, no_memory: None
) -> None:
    path = save(tmp_path / name, lambda about: about["model_kwargs"].update(kwargs))
    with pytest.raises(UserError, match=r"do not fit|at most 1000 is allowed"):
        ModelPolicy.from_checkpoint(path, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"obs_shapes": {"x": [2**30]}, "normalized": True},
        {"obs_shapes": {"x": [2**30]}, "normalized": True, "relative_positions": True},
        {"normalized": True, "action_dim": 2**40, "normalization": {"actions": "mean_std"}},
        {"obs_shapes": {"x": ["5"]}},
        {"obs_shapes": 5},
        {"contract": {"env_name": 5}},
        {"contract": {"env_name": "reach", "control_dt": float("nan")}},
        {"normalization": {"state": 5}, "normalized": True},
        {"model_kwargs": [1]},
        {"model_kwargs": {"hidden_dim": "16"}},
        {"rebuild_with": 5},
        {"model_name": 5},
        {"wrapped": torch.zeros(0)},
    ],
    ids=str,
)
def test_wrong_descriptions(tmp_path: Path, change: dict[str, Any], no_memory: None) -> None:
    path = save(tmp_path / "evil.pt", lambda about: about.update(change))
    with pytest.raises(UserError) as error:
        ModelPolicy.from_checkpoint(path, "cpu")
    assert "\n" not in str(error.value)


def test_the_noise_of_diffusion_is_bounded() -> None:
    with pytest.raises(UserError, match="num_diffusion_steps is 10000000000"):
        create_model("diffusion", state_dim=5, num_diffusion_steps=10**10)


@pytest.mark.parametrize("name", list_models())
def test_every_model_is_built_for_its_own_weights(name: str) -> None:
    def build() -> nn.Module:
        return create_model(f"{name}:debug" if name == "vla" else name)

    model = build()
    rebuilt = build_for(dict(model.state_dict()), build, "a.pt")
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), rebuilt.parameters(), strict=True)
    )
    assert not any(t.is_meta for t in (*rebuilt.parameters(), *rebuilt.buffers()))


def test_a_constructor_that_looks_at_values_is_let_pass() -> None:
    class Own(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.first = float(self.weight[0, 0].detach())

    require_fit(dict(Own().state_dict()), Own, "a.pt")
    assert build_for(dict(Own().state_dict()), Own, "a.pt").first


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "final.pt"
    PPOAgent(6, 2, PPOConfig(hidden_dim=16)).save(path)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"obs_dim": 2**40},
        {"action_dim": 2**40},
        {"config": {"hidden_dim": 10**6}},
        {"config": {"n_layers": 10**9}},
        {"config": {"unknown": 1}},
        {"state.optimizer": {"state": {0: {"step": torch.zeros(()), "exp_avg": torch.zeros(3)}}}},
        {"state.optimizer": 5},
        {"state.obs_rms": {}},
        {"state.lr": float("nan")},
        {"updates": "x"},
        {"state.generator": torch.zeros(3)},
        {"state": None},
        {"agent": "no"},
    ],
    ids=str,
)
def test_agents(agent: Path, tmp_path: Path, change: dict[str, Any], no_memory: None) -> None:
    payload = load_checkpoint(agent)
    PPOAgent.from_checkpoint(agent)
    for key, value in change.items():
        saved = payload if key == "agent" else payload["ppo"]
        part = saved["state"] if key.startswith("state.") else saved
        part[key.removeprefix("state.")] = value
    payload.pop("format_version")
    path = save_checkpoint(tmp_path / "evil.pt", payload)
    with pytest.raises(UserError) as error:
        PPOAgent.from_checkpoint(path)
    assert "\n" not in str(error.value)
