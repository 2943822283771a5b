"""Agents by name, and the settings that all of them have."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import pytest

from simscaleai.rl.agents.agent import agent_class, list_agents, register_agent, resolve_agent
from simscaleai.rl.agents.agent_config import AgentConfig
from simscaleai.rl.agents.cem import CEMConfig
from simscaleai.rl.agents.ppo_config import PPOConfig

OWN = """
from simscaleai.rl.agents.cem import CEMAgent

class Lazy(CEMAgent):
    run_defaults = {"init_std": 0.25}
"""


def test_an_agent_that_is_named_by_a_string_is_imported_when_it_is_used(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "lazy_lab.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    register_agent("test-lazy")("lazy_lab:Lazy")
    assert "test-lazy" in list_agents() and "lazy_lab" not in sys.modules
    cls, config = resolve_agent({"name": "test-lazy", "n_steps": 3})
    assert (cls.name, cls.__name__) == ("test-lazy", "Lazy")  # not "cem", which it inherits
    assert agent_class("cem").name == "cem"
    assert isinstance(config, CEMConfig) and (config.n_steps, config.init_std) == (3, 0.25)


def test_settings_keep_their_order_and_defaults() -> None:
    # documented: the first positional argument is the width of the network
    assert PPOConfig(64, 3) == PPOConfig(hidden_dim=64, n_layers=3)
    defaults = {name: getattr(PPOConfig(), name) for name in ("n_steps", "log_every", "seed")}
    assert defaults == {"n_steps": 2048, "log_every": 10, "seed": 0}
    assert (CEMConfig().n_steps, CEMConfig().log_every) == (50, 1)
    shared = {field.name for field in fields(AgentConfig)}
    for config in (PPOConfig, CEMConfig):
        assert shared < {field.name for field in fields(config)}


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        (PPOConfig(n_steps=0, gamma=1.5), ["n_steps is 0, it must be positive", "gamma is 1.5"]),
        (PPOConfig(lr=float("nan")), ["lr is nan, it must be positive"]),
        (CEMConfig(log_every=-1, elite_fraction=0), ["log_every is -1", "elite_fraction is 0"]),
    ],
)
def test_every_setting_out_of_range_is_named(config: AgentConfig, problems: list[str]) -> None:
    found = config.problems()
    assert len(found) == len(problems)
    assert all(text.startswith(start) for text, start in zip(found, problems, strict=True))
