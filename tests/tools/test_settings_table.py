"""What `simscale config` shows: every setting, with the value that the command would use and its meaning."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from simscaleai.errors import UserError
from simscaleai.sim.base_env import SimConfig
from simscaleai.tools import cli
from simscaleai.tools.settings_table import find_settings, list_settings
from simscaleai.training.run_config import RunConfig, load_run


def shown(kind: str, *words: str, config: str | None = None) -> dict[str, tuple[str, str]]:
    return {
        name: (value, why)
        for name, value, why in list_settings(find_settings(kind, config, [*words]))
    }


def test_defaults_and_meanings_of_an_environment() -> None:
    found = shown("env", "dt=0.004")
    assert found["dt"] == ("0.004", "physics timestep, s.")
    assert found["xml_path"][0] == '""' and found["seed"][0] == "null"
    assert found["domain_randomization"][0] == "false"
    assert all(why for _, why in found.values())
    assert set(found) == set(SimConfig.__dataclass_fields__)


def test_training_with_a_model_of_ones_choice() -> None:
    found = shown("train", "model.name=act", "optimizer.lr=3e-4")
    assert found["optimizer.lr"][0] == "0.0003" and "learning rate" in found["optimizer.lr"][1]
    assert found["model.name"][0] == "act" and found["model.latent_dim"][0] == "16"
    groups = {name.partition(".")[0] for name in found}
    assert groups == {field.name for field in fields(RunConfig)}
    assert found["model.kl_weight"][1]
    missing = [
        name for name, (_, why) in found.items() if not why and not name.startswith("model.")
    ]
    assert missing == []


def test_an_agent() -> None:
    found = shown("rl", "agent.name=cem")
    assert found["agent.name"][0] == "cem" and found["agent.n_steps"][1]
    with pytest.raises(UserError, match="Did you mean 'rl'"):
        shown("rll")


def test_the_yaml_is_a_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["config", "train", "--yaml", "seed=7", "model.hidden_dim=32"])
    assert end.value.code == 0
    (tmp_path / "my.yaml").write_text(capsys.readouterr().out)
    assert load_run(tmp_path / "my.yaml") == load_run(None, ["seed=7", "model.hidden_dim=32"])
