"""Evaluation of checkpoints: their environments, instructions and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import create_model, register_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.rl import EvalConfig, evaluate_checkpoint, evaluate_policy
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.tasks.colors import COLORS
from simscaleai.storage.checkpoint import save_checkpoint


def rows(name: str, n: int, **settings: Any) -> Any:
    return make_vec_env(name, n, autoreset_mode="disabled", dt=0.01, **settings)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """An untrained policy for reach, as a training run leaves it."""

    def write(contract: bool = True, name: str = "bc", **kwargs: Any) -> Path:
        about = make_env("reach", cameras=[], dt=0.01, max_episode_steps=20).contract
        spec = ObsSpec(about.obs_shapes, about.obs_dtypes)
        torch.manual_seed(0)
        model = create_model(name, state_dim=20, **(kwargs or {"hidden_dim": 16, "n_layers": 1}))
        statistics = {"state": Statistics.of(torch.randn(50, 20))}
        policy = ModelPolicy(model, spec, Normalizer(statistics), about if contract else None)
        payload = {"policy": policy.description(), "weights": dict(policy.state_dict())}
        return save_checkpoint(tmp_path / "final.pt", payload)

    return write


@pytest.mark.parametrize("model", [{}, {"name": "diffusion:debug", "n_action_steps": 3}])
def test_a_checkpoint_knows_its_environment(
    model: dict[str, Any], checkpoint: Any, tmp_path: Path
) -> None:
    path = checkpoint(**model)
    runs = [
        evaluate_checkpoint(
            path, 5, num_envs=n, device="cpu", show_progress=False, output_dir=tmp_path / str(n)
        )
        for n in (2, 5)
    ]
    for n, result in zip((2, 5), runs, strict=True):
        assert result["env_name"] == "reach" and result["mean_length"] <= 20
        written = json.loads((tmp_path / str(n) / "eval_info.json").read_text())
        assert written == json.loads(json.dumps(result))
        names = sorted(p.name for p in (tmp_path / str(n)).iterdir())
        assert names == ["eval_info.json", "eval_info_final_reach_5_seed0.json"]
        assert result["output_path"] == str(tmp_path / str(n) / names[1])
    assert runs[0]["episodes"] == runs[1]["episodes"]  # how many run at once does not matter
    randomized = evaluate_checkpoint(
        path, 5, randomize="heavy", device="cpu", show_progress=False, output_dir=tmp_path / "r"
    )
    assert randomized["randomize"] == "heavy"
    assert [e["seed"] for e in randomized["episodes"]] == [e["seed"] for e in runs[0]["episodes"]]
    assert [e["reward"] for e in randomized["episodes"]] != [
        e["reward"] for e in runs[0]["episodes"]
    ]


class Listener(nn.Module):
    """Goes to the sphere whose colour is a word of what it is told; without one it stays."""

    uses_language = True
    places = {"blue": 0, "hand": 3, "green": 6, "red": 23}  # in the state, whose keys are sorted

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def predict(self, obs: dict[str, torch.Tensor], language: list[str]) -> torch.Tensor:
        at = {name: obs["state"][:, start : start + 3] for name, start in self.places.items()}
        action = torch.zeros(len(obs["state"]), 4)
        for row, sentence in enumerate(language):
            for color in set(sentence.split()) & set(COLORS):
                action[row, :3] = ((at[color] - at["hand"])[row] / 0.05).clip(-1, 1)
        return action


def test_each_row_is_told_its_own_sentence(tmp_path: Path, monkeypatch: Any) -> None:
    register_model("test-listener")(Listener)
    contract = make_env("reach_color", cameras=[], dt=0.01, max_episode_steps=30).contract
    policy = ModelPolicy(create_model("test-listener"), contract=contract)
    payload = {"policy": policy.description(), "weights": dict(policy.state_dict())}
    path = save_checkpoint(tmp_path / "final.pt", payload)
    told = {}
    for phrasings in ("train", "held_out"):
        result = evaluate_checkpoint(
            path, 16, seed=1, num_envs=5, phrasings=phrasings, device="cpu", show_progress=False
        )
        assert result["success_rate"] == 1.0 and result["phrasings"] == phrasings
        assert len(result["categories"]) == 3
        told[phrasings] = {e["instruction"] for e in result["episodes"]}
    assert len(told["train"]) > 3 and not told["train"] & told["held_out"]
    with pytest.raises(UserError, match=r"'heldout'.*Did you mean 'held_out'"):
        evaluate_checkpoint(path, 1, phrasings="heldout", device="cpu", show_progress=False)


def test_phrasings_that_a_task_does_not_have(checkpoint: Any) -> None:
    with pytest.raises(UserError, match="'reach' holds no phrasings out"):
        evaluate_checkpoint(checkpoint(), 1, phrasings="held_out", device="cpu")


def test_a_policy_is_told_where_episodes_begin() -> None:
    class Told:
        def __init__(self) -> None:
            self.seeds: list[int] = []

        def reset(self, mask: np.ndarray, seeds: list[int], instructions: list[str]) -> None:
            assert instructions == ["reach the green target"] * len(mask)
            self.seeds += [s for s, m in zip(seeds, mask, strict=True) if m]

        def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
            return np.zeros((*obs["ee_pos"].shape[:-1], 4), np.float32)

    for env in (make_env("reach", cameras=[], max_episode_steps=2), rows("reach", 2)):
        policy = Told()
        found = evaluate_policy(env, policy.act, EvalConfig(n_episodes=4, max_steps=2))
        assert sorted(policy.seeds) == sorted(e["seed"] for e in found["episodes"])


def test_checkpoints_that_cannot_be_evaluated(checkpoint: Any, tmp_path: Path) -> None:
    def run(**kwargs: Any) -> Any:
        path = tmp_path / "final.pt"
        return evaluate_checkpoint(path, 1, device="cpu", show_progress=False, **kwargs)

    with pytest.raises(UserError, match=r"final\.pt"):
        run()
    checkpoint(contract=False)
    with pytest.raises(UserError, match="--env-name"):
        run()
    assert run(env_name="reach")["n_episodes"] == 1
    checkpoint()
    with pytest.raises(UserError, match="n_episodes"):
        evaluate_checkpoint(tmp_path / "final.pt", 0, device="cpu", show_progress=False)
