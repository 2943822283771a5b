"""An untrained policy that commands are run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.sim import make_env
from simscaleai.storage.checkpoint import save_checkpoint
from simscaleai.tools.cli import main


@pytest.fixture
def evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> Any:
    """Run `simscale eval` with further words on an untrained policy; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    contract = make_env("reach", cameras=[], dt=0.01, max_episode_steps=3).contract
    spec = ObsSpec(contract.obs_shapes, contract.obs_dtypes)
    statistics = {"state": Statistics.of(torch.randn(50, 20))}
    model = create_model("bc", state_dim=20, hidden_dim=16, n_layers=1)
    policy = ModelPolicy(model, spec, Normalizer(statistics), contract)
    payload = {"policy": policy.description(), "weights": dict(policy.state_dict())}
    save_checkpoint(tmp_path / "runs" / "a" / "final.pt", payload)

    def command(*words: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        return ended.value.code, *capsys.readouterr()

    def run(*words: str) -> tuple[Any, str, str]:
        return command("eval", "a", "--n-episodes", "2", *words)

    run.command = command  # type: ignore[attr-defined]
    return run
