"""A second algorithm without gradients, values or actions that are drawn one by one, by the same commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.agent import list_agents, register_agent
from simscaleai.rl.agents.agent_checkpoint import load_agent
from simscaleai.rl.agents.cem import CEMAgent, CEMConfig
from simscaleai.rl.agents.ppo import PPOAgent
from simscaleai.rl.settings import RLConfig
from simscaleai.rl.training import train_agent
from simscaleai.sim import make_vec_env


def envs(n: int = 4, **settings: object):
    return make_vec_env(
        "reach", n, autoreset_mode="same_step", max_episode_steps=10, dt=0.01, **settings
    )


def test_it_learns_reach() -> None:
    config = CEMConfig(n_steps=25, total_timesteps=64 * 25 * 14, relative_positions=True)
    config.state_keys = ["ee_pos", "target_pos"]
    env = make_vec_env(
        "reach", 64, autoreset_mode="same_step", max_episode_steps=25, dt=0.01, reward="default"
    )
    agent = CEMAgent(11, 4, config)
    history = agent.train(env)
    first, last = history["mean_score"][0], np.mean(history["mean_score"][-3:])
    assert last > first and np.mean(history["success_rate"][-3:]) > 0.8
    assert history["parameter_std"][-1] < 0.4


def test_the_mean_is_the_mean_of_the_best_and_nothing_else_of_it_is_learned() -> None:
    agent = CEMAgent(20, 4, CEMConfig(n_steps=5, elite_fraction=0.5, total_timesteps=20))
    policies: list[torch.Tensor] = []
    begin = agent.begin

    def keep(num_envs: int, resumed: bool) -> None:
        if hasattr(agent, "_policies"):
            policies.append(agent._policies)
            scores.append(agent._rewards / agent._steps)
        begin(num_envs, resumed)

    scores: list[np.ndarray] = []
    agent.begin = keep  # type: ignore[method-assign]
    agent.train(envs())
    best = policies[0][np.argsort(scores[0])[-2:].copy()]
    mean = torch.cat([p.detach().flatten() for p in agent.actor.parameters()])
    torch.testing.assert_close(mean, best.mean(0))
    torch.testing.assert_close(agent.std, best.std(0, correction=0).clamp(min=0.02))


@pytest.mark.parametrize("stop_after", [1, 3])
def test_killed_and_resumed_it_is_the_same_run(stop_after: int, tmp_path: Path) -> None:
    def metrics(history: dict[str, list[float]]) -> dict[str, list[float]]:
        return {k: v for k, v in history.items() if "second" not in k}

    config = CEMConfig(n_steps=7, total_timesteps=5 * 4 * 7)
    whole = CEMAgent(20, 4, config)
    expected = metrics(whole.train(envs()))
    first = CEMAgent(20, 4, config)
    before = metrics(first.train(envs(), lambda _: first.updates == stop_after))
    first.save(tmp_path / "agent.pt")
    second = CEMAgent.from_checkpoint(tmp_path / "agent.pt")
    after = metrics(second.train(envs()))
    assert {k: before.get(k, []) + after.get(k, []) for k in expected} == expected
    assert torch.equal(whole.std, second.std)
    with pytest.raises(UserError, match="an agent of the kind 'cem', not 'ppo'"):
        PPOAgent.from_checkpoint(tmp_path / "agent.pt")


def test_a_run_names_it_and_one_of_ones_own(tmp_path: Path, monkeypatch) -> None:
    @register_agent("patient")
    class Patient(CEMAgent):
        run_defaults = {"n_steps": 3}

    monkeypatch.chdir(tmp_path)
    assert {"cem", "ppo", "patient"} <= set(list_agents())
    for name in ("cem", "patient"):
        config = RLConfig(
            agent={
                "name": name,
                "total_timesteps": 24,
                **({"n_steps": 3} if name == "cem" else {}),
            },
            env={"max_episode_steps": 3},
            num_envs=4,
            eval_episodes=2,
            show_progress=False,
            use_tensorboard=False,
        )
        assert train_agent(config)["timesteps"] == 24
        folder = Path(f"checkpoints/{name}_reach")
        agent, _ = load_agent(folder / "final.pt")
        assert agent.name == name and agent.updates == 2
        policy = ModelPolicy.from_checkpoint(folder / "final.pt", device="cpu")
        assert policy.act(envs(2).reset(seed=0)[0]).shape == (2, 4)
        (info,) = json.loads((folder / "run_info.json").read_text())
        assert info["metric_groups"][0]["title"] == "Score of the policies"
        config.resume_from = "auto"
        config.agent["total_timesteps"] = 36
        assert train_agent(config)["timesteps"] == 36
    config.agent = {"name": "cem", "total_timesteps": 48, "n_steps": 3}
    config.resume_from = str(folder)
    with pytest.raises(UserError, match=r"agent\.name is cem, and patient there"):
        train_agent(config)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ({"name": "pppo"}, "Unknown agent 'pppo'.*cem, .*ppo"),
        ({"name": "cem", "gamma": 0.9}, "setting of agent 'cem': 'gamma'"),
        ({"name": "cem", "elite_fraction": 2.0}, r"agent\.elite_fraction is 2\.0"),
        ({"n_steps": "many"}, "n_steps"),
    ],
)
def test_mistakes_are_one_sentence(agent: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        train_agent(RLConfig(agent=agent, num_envs=2, show_progress=False))
    assert "\n" not in str(error.value)
