"""What `simscale eval`, `compare` and `stress` print and write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai.evaluation.eval_files import EvalFiles
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
    contract = make_env("reach", cameras=[], dt=0.005, max_episode_steps=3).contract
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


def test_the_name_of_a_run(evaluate: Any) -> None:
    code, out, _ = evaluate()
    assert code == 0 and "success rate" in out and "final.pt" in out
    assert sorted(p.name for p in Path("runs/a").iterdir()) == [
        "eval_info.json",
        "eval_info_final_reach_2_seed0.json",
        "final.pt",
    ]


def test_a_folder_that_cannot_be_written(evaluate: Any, monkeypatch: Any, caplog: Any) -> None:
    Path("file").touch()
    code, out, err = evaluate("--output", "file/there")
    assert code == 2 and out == "" and "Error: file/there/eval_info.json cannot be written" in err

    def refuse(self: Path, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    code, out, err = evaluate()
    assert code == 0 and "success rate" in out and "not saved" in out
    assert "The results will not be saved: runs/a/eval_info.json" in caplog.text


def test_a_disk_that_is_full_in_the_end(evaluate: Any, monkeypatch: Any) -> None:
    def full(self: EvalFiles, results: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EvalFiles, "write", full)
    code, out, err = evaluate()
    assert code == 2 and "success rate" in out and "not saved" in out
    assert err.splitlines()[-1].startswith("Error: The results are not saved: runs/a/eval_info_")


def test_several_policies_at_once(evaluate: Any) -> None:
    code, out, err = evaluate("scripted", "nothing", "--env-name", "reach")
    # one line for each that could be evaluated, and the mistake in the end
    assert code == 2 and "Evaluations" in out
    assert "runs/a/" in out and "scripted" in out and "100.0 %" in out
    assert err.splitlines()[-1].startswith("Error: ") and "'nothing'" in err
    # the expert has no folder of its own
    assert not list(Path(".").glob("eval_info*"))


def test_until_an_interval(evaluate: Any) -> None:
    code, *_ = evaluate("--until-interval", "0.9")
    # a single failure has an interval of 79 %
    assert code == 0 and Path("runs/a/eval_info_final_reach_until0.9_seed0.json").exists()
    code, _, err = evaluate("--until-interval", "2")
    assert code == 2 and "until_interval is 2.0" in err


def test_another_robot(evaluate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    # the policy reads 7 joints, and the UR5e has 6
    code, _, err = evaluate("--robot", "ur5e")
    assert code == 2 and "'joint_pos' has shape (6,), expected (7,)" in err
    with pytest.raises(SystemExit) as ended:
        main(["eval", "scripted", "--robot", "ur5e", "--n-episodes", "2", "--output", "results"])
    assert ended.value.code == 0
    found = json.loads(Path("results/eval_info.json").read_text())
    assert found["robot"] == "ur5e" and found["success_rate"] == 1.0
    assert Path(found["output_path"]).name == "eval_info_scripted_reach_2_seed0_ur5e.json"


def test_compare(evaluate: Any) -> None:
    # an untrained policy against itself: never a difference
    code, out, _ = evaluate.command("compare", "a", "a", "--min-difference", "0.2")
    assert code == 0 and "SAME WITHIN 20 %" in out and "p = 1" in out
    assert "Results: runs/compare/a-1_a-2" in out
    assert Path("runs/compare/a-1_a-2/comparison.json").exists()
    code, out, err = evaluate.command("compare", "a")
    assert code == 2 and out == "" and "at least two policies" in err


def test_stress(evaluate: Any) -> None:
    words = ("stress", "a", "--n-episodes", "2", "--axes", "action-noise,robot-start")
    code, out, _ = evaluate.command(*words, "--output", "there")
    assert code == 0 and "control" in out and "never_reached: 2" in out
    assert {p.name for p in Path("there").iterdir()} >= {"stress.json"}
    code, _, err = evaluate.command("stress", "a", "--axes", "mass", "--levels", "1,x")
    assert code == 2 and "A level is 'x'" in err
