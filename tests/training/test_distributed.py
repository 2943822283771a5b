"""Training by two processes against the same training by one: slow, since each imports PyTorch."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.checkpoint import load_checkpoint

SCRIPT = Path(__file__).with_name("cases.py")
_spec = importlib.util.spec_from_file_location("cases", SCRIPT)
assert _spec is not None and _spec.loader is not None
cases: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)

# Everything that has to be put together from several processes; checkpoints in the middle of an epoch, at
# its end and after it.
COMMON = {"save_every": 5, "eval_every": 5, "accumulate": 2, "ema_decay": 0.9, "max_steps": 15}
FSDP = {"strategy": "fsdp2"}
# Evaluations after which nothing is written: that would put the trained weights in place again.
SHORT = {
    "max_steps": 6,
    "eval_every": 2,
    "ema_decay": 0.9,
    "closed_loop": False,
    "best_metric": "eval_constant",
}

Runs = tuple[Path, dict[str, list[Any]]]


def as_file(path: Path, runs: dict[str, dict[str, Any]]) -> Path:
    """A file of cases; paths in it are relative to its folder."""
    listed = []
    for name, case in runs.items():
        case = {**case, "folder": str(path.parent / name)}
        if "resume_from" in case and case["resume_from"] != "auto":
            case["resume_from"] = str(path.parent / case["resume_from"])
        listed.append(case)
    path.write_text(json.dumps(listed))
    return path


@pytest.fixture(scope="module")
def runs(launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Folder of all runs, and by their names what came of them in each process."""
    folder = tmp_path_factory.mktemp("runs")
    two: dict[str, dict[str, Any]] = {
        "ddp": COMMON,
        "fsdp2": {**COMMON, **FSDP},
        "blocks": {"blocks": True, **FSDP, **SHORT},
        "ddp-after-fsdp2": {**COMMON, "resume_from": "fsdp2/step_5"},
        "fsdp2-after-ddp": {**COMMON, **FSDP, "resume_from": "ddp/step_5.pt"},
        "dropout-ddp": {"dropout": 0.3, "save_every": 7, "max_steps": 10},
        "dropout-ddp-resumed": {"dropout": 0.3, "max_steps": 10, "resume_from": "dropout-ddp/step_7.pt"},
        "dropout-fsdp2": {"dropout": 0.3, "save_every": 7, "max_steps": 10, **FSDP},
        "dropout-fsdp2-resumed": {
            "dropout": 0.3, "max_steps": 10, "resume_from": "dropout-fsdp2/step_7", **FSDP
        },
        "sgd": {**COMMON, "optimizer": "sgd"},
        "sgd-fsdp2": {**COMMON, **FSDP, "optimizer": "sgd"},
        "sgd-fsdp2-resumed": {
            **COMMON, **FSDP, "optimizer": "sgd", "resume_from": "sgd-fsdp2/step_5"
        },
        "infinite": {"watched": ["infinite", 4, 1]},
        "stopped": {"watched": ["SIGTERM", 4, 1]},
        "stopped-fsdp2": {"watched": ["SIGINT", 2, 0], **FSDP},
        "misfit": {**FSDP, "resume_from": "blocks/final.pt"},
        "uneven": {"batch_size": 9},
    }  # fmt: skip
    by_rank = launch(2, SCRIPT, as_file(folder / "two.json", two))
    return folder, {name: [of_one[i] for of_one in by_rank] for i, name in enumerate(two)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run by one process."""
    folder = tmp_path_factory.mktemp("alone")
    cases.make_trainer(folder, **COMMON).train()
    return folder


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def same_weights(a: Path, b: Path, exactly: bool = False) -> None:
    """Also of what is trained under a moving average, and of the optimizer."""
    one, other = load_checkpoint(a), load_checkpoint(b)
    tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-4, "atol": 1e-6}
    for key in ("weights", "raw_weights", "optimizer"):
        torch.testing.assert_close(one.get(key), other.get(key), **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_the_course_is_that_of_one_process(runs: Runs, alone: Path, name: str) -> None:
    folder = runs[0] / name
    ours, theirs = records(folder), records(alone)
    assert [r["step"] for r in ours] == [r["step"] for r in theirs]  # written by one process only
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {
            "samples_per_second",
            "data_seconds",
            "step_seconds",
            "data_wait_share",
        }:
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6), (a["step"], key)
    same_weights(folder / "final.pt", alone / "final.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp-after-fsdp2", "fsdp2-after-ddp"])
def test_checkpoints_move_between_ddp_and_fsdp2(runs: Runs, alone: Path, name: str) -> None:
    same_weights(runs[0] / name / "final.pt", alone / "final.pt")
    assert [r["step"] for r in records(runs[0] / name) if "loss" in r] == list(range(6, 16))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd-fsdp2", "sgd-fsdp2-resumed"])
def test_another_optimizer_is_sharded_and_resumed_alike(runs: Runs, name: str) -> None:
    same_weights(runs[0] / name / "final.pt", runs[0] / "sgd/final.pt")
    slots = load_checkpoint(runs[0] / name / "final.pt")["optimizer"]
    assert all(set(of) == {"momentum_buffer"} for of in slots.values())


@pytest.mark.slow
@pytest.mark.parametrize("start", ["ddp/step_10.pt", "fsdp2/step_10", "fsdp2/best.pt"])
def test_one_process_goes_on_from_two(runs: Runs, alone: Path, start: str, tmp_path: Path) -> None:
    cases.make_trainer(tmp_path, resume_from=str(runs[0] / start), **COMMON).train()
    same_weights(tmp_path / "final.pt", alone / "final.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dropout-ddp", "dropout-fsdp2"])
def test_two_processes_resume_bit_exactly(runs: Runs, name: str) -> None:
    """Each goes on with its own random state, or dropout would be another one."""
    resumed = runs[0] / f"{name}-resumed"
    same_weights(runs[0] / name / "final.pt", resumed / "final.pt", exactly=True)
    losses = {r["step"]: r["loss"] for r in records(runs[0] / name) if "loss" in r}
    assert {r["step"]: r["loss"] for r in records(resumed) if "loss" in r} == {
        step: losses[step] for step in (8, 9, 10)
    }


@pytest.mark.slow
def test_blocks_of_a_model_are_put_together_by_themselves(runs: Runs, tmp_path: Path) -> None:
    cases.make_trainer(tmp_path, cases.Blocks(), **SHORT).train()
    same_weights(runs[0] / "blocks/final.pt", tmp_path / "final.pt")


@pytest.mark.slow
def test_a_checkpoint_in_parts_is_a_policy(runs: Runs) -> None:
    obs = {"state": cases.DATA[0]["observations"]["state"][None].numpy()}
    one, other = (
        ModelPolicy.from_checkpoint(runs[0] / path, device="cpu").act(obs)
        for path in ("ddp/step_10.pt", "fsdp2/step_10")
    )
    assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
def test_all_processes_end_together(runs: Runs) -> None:
    results = runs[1]
    for result in results["infinite"]:
        assert result["error"].startswith("At step 4 the loss is inf")
    assert not list((runs[0] / "infinite").glob("*.pt"))
    for name, code, step in (("stopped", 143, 5), ("stopped-fsdp2", 130, 3)):
        assert [r["stopped"] for r in results[name]] == [step, step]
        assert code in [r["code"] for r in results[name]]
        payload = load_checkpoint(runs[0] / name / "last")
        assert payload["step"] == step
    for result in results["uneven"]:
        assert "batch_size is 9, and 2 processes" in result["error"]
    for result in results["misfit"]:
        assert "layers.0.weight is not known" in result["error"]


@pytest.mark.slow
def test_four_processes_go_on_from_two_and_two_from_four(
    launch: Callable[..., Any], runs: Runs, alone: Path, tmp_path: Path
) -> None:
    common = {**COMMON, "accumulate": 1}
    four = {
        "a": {**common, "resume_from": str(runs[0] / "ddp/step_5.pt")},
        "b": {**common, **FSDP, "resume_from": str(runs[0] / "fsdp2/step_5")},
    }
    launch(4, SCRIPT, as_file(tmp_path / "four.json", four))
    two = {
        "c": {**common, "resume_from": "b/step_10"},
        "d": {**common, **FSDP, "resume_from": "a/step_10.pt"},
        "e": {**common, **FSDP, "resume_from": "b/step_10"},
    }
    launch(2, SCRIPT, as_file(tmp_path / "two.json", two))
    for name in (*four, *two):
        same_weights(tmp_path / name / "final.pt", alone / "final.pt")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for threads in /proc")
@pytest.mark.parametrize(("strategy", "code"), [("ddp", 7), ("fsdp2", 0)])
def test_the_end_waits_for_the_threads_that_send(strategy: str, code: int, tmp_path: Path) -> None:
    told = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    ended = subprocess.run(
        [sys.executable, SCRIPT.with_name("ending.py"), strategy, str(code), tmp_path],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (code, "")


def test_torchrun_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="torchrun --nproc-per-node 2"):
        cases.make_trainer(tmp_path, distributed=True)


def test_environment_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Processes.from_environment() == Processes()
    told = {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "MASTER_ADDR": "x"}
    for key, value in {**told, "TORCHELASTIC_RESTART_COUNT": 2, "TORCHELASTIC_RUN_ID": "j"}.items():
        monkeypatch.setenv(key, str(value))
    assert Processes.from_environment() == Processes(3, 4, 1, True, 2, "j")
    assert not Processes.from_environment().is_main


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_more_processes_than_gpus_is_named() -> None:
    with pytest.raises(UserError, match="0 GPUs and torchrun started a process for GPU 2"):
        Processes(rank=1, size=2, local_rank=1, launched=True).join("cuda")
