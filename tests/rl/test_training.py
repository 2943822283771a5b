"""A run of reinforcement learning: its files, going on, and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.rl.settings import RLConfig
from simscaleai.rl.training import train_agent


def config(**changes: object) -> RLConfig:
    ppo = PPOConfig(n_steps=8, batch_size=32, n_epochs=1, hidden_dim=16, total_timesteps=96)
    values = {"name": "a", "num_envs": 4, "ppo": ppo, "env": {"max_episode_steps": 6}}
    values |= {"eval_every": 2, "eval_episodes": 3, "use_tensorboard": False} | changes
    return RLConfig(**values, show_progress=False)  # type: ignore[arg-type]


def test_a_run_leaves_its_agents_and_numbers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = train_agent(config())
    folder = tmp_path / "runs/a"
    names = {"best.pt", "last.pt", "final.pt", "metrics.jsonl", "config.yaml", "run_info.json"}
    assert {p.name for p in folder.iterdir()} == names
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval_success_rate" in line] == [64, 96]
    assert done["timesteps"] == 96 and not done["stopped"]
    policy = ModelPolicy.from_checkpoint(folder / "final.pt", device="cpu")
    assert policy.contract is not None and policy.contract.env_name == "reach"


def test_a_run_goes_on_and_an_old_one_is_moved_aside(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_agent(config())
    longer = config(resume_from="auto")
    longer.ppo.total_timesteps = 160
    assert train_agent(longer)["timesteps"] == 160
    assert not list(Path("runs").glob("a.old*"))
    train_agent(config())
    assert PPOAgent.from_checkpoint("runs/a.old-1/final.pt").timesteps == 160


def test_mistakes_are_named_together(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = config(num_envs=0)
    wrong.ppo.gamma = 2.0
    with pytest.raises(UserError, match=r"num_envs is 0.*gamma is 2\.0"):
        train_agent(wrong)
    train_agent(config())
    other = config(resume_from="runs/a/final.pt")
    other.ppo.hidden_dim = 32
    with pytest.raises(UserError, match=r"hidden_dim is 32, and 16 there"):
        train_agent(other)
