"""Training that is killed, told to stop and started again goes on as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.tracking.checkpoints import Checkpoints

SCRIPT = Path(__file__).with_name("training_run.py")


@contextmanager
def started(command: list[Any], **kwargs: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **kwargs,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def torchrun(size: int, *words: Any) -> list[Any]:
    """The command as people write it, but for a port that no other run has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--nproc-per-node", size, "--master-port", port, "--monitor-interval", 0.1]
    return [sys.executable, "-m", "torch.distributed.run", *options, *words]


def ends_well(process: subprocess.Popen[str]) -> None:
    complaint = process.communicate(timeout=120)[1]
    assert process.returncode == 0, complaint[-5000:]


def newest(folder: Path) -> int:
    return Checkpoints(folder / "ck", folder / "ck").newest().step


def records(folder: Path) -> int:
    """Steps that have been recorded."""
    path = folder / "ck/metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def final(folder: Path) -> dict[str, Any]:
    payload = load_checkpoint(folder / "ck/final.pt")
    return {key: payload[key] for key in ("weights", "optimizer", "data", "step")}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_saves(folder: Path, kills: int, rng: random.Random) -> list[str]:
    """Kill a process that saves; after each time, what it told last and what is there must agree."""
    moments = []
    with started([sys.executable, SCRIPT, "saves", folder], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        known = -1
        for _ in range(kills):
            process.stdin.write("\n")
            process.stdin.flush()
            word, pid = process.stdout.readline().split()
            assert word == "started"
            told = [process.stdout.readline()]
            time.sleep(rng.uniform(0.0, 0.3))
            os.kill(int(pid), signal.SIGKILL)
            while told[-1] != "ended\n":
                told.append(process.stdout.readline())
                assert told[-1], process.communicate()[1]
            verb, step = told[-2].split()
            there = Checkpoints(folder / "ck", folder / "ck").newest()
            found, damaged = there.step, there.damaged
            assert damaged == []  # what is half written does not have the name of a checkpoint
            if verb == "saved":
                assert found == int(step)
            else:
                assert found in (int(step) - 1, int(step)) or known == found == -1
            assert found >= known
            known = found
            moments.append(verb)
    return moments


@pytest.mark.slow
def test_killed_while_saving_twenty_times(tmp_path: Path) -> None:
    moments = kill_saves(tmp_path, 20, random.Random(1))
    assert moments.count("saving") >= 5  # or the kills were not where they should be
    half_written = list((tmp_path / "ck").glob(".step_*.tmp"))
    assert len(half_written) <= 1  # of the last kill; those before were cleaned up


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run by two processes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with started(torchrun(2, SCRIPT, "steps", folder)) as run:
        ends_well(run)
    return folder


@pytest.mark.slow
def test_random_processes_killed_three_times_under_torchrun(
    tmp_path: Path, undisturbed: Path
) -> None:
    rng = random.Random(2)
    with started(torchrun(2, "--max-restarts", 3, SCRIPT, "steps", tmp_path)) as run:
        for restart in range(3):
            before = newest(tmp_path)
            pid = tmp_path / f"{restart}-{rng.randrange(2)}.pid"
            wait_for(lambda: newest(tmp_path) > before and pid.exists(), run)  # noqa: B023
            time.sleep(rng.uniform(0, 0.3))
            os.kill(int(pid.read_text()), signal.SIGKILL)
        ends_well(run)
    assert equal(final(tmp_path), final(undisturbed))
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 8 and not any(is_running(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_torchrun_told_to_stop_saves_and_goes_on_later(
    tmp_path: Path, undisturbed: Path, number: signal.Signals
) -> None:
    with started(torchrun(2, SCRIPT, "unsaved", tmp_path)) as run:
        wait_for(lambda: records(tmp_path) >= 5, run)
        os.kill(run.pid, number)
        asked = time.monotonic()
        assert run.wait(30) != 0
        assert time.monotonic() - asked < 10
    assert newest(tmp_path) >= 5
    with started(torchrun(2, SCRIPT, "unsaved", tmp_path, "auto")) as run:
        ends_well(run)
    assert equal(final(tmp_path), final(undisturbed))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unsaved", "workers"])
def test_ctrl_c_in_a_terminal_saves(tmp_path: Path, kind: str) -> None:
    """It reaches every process of the group at once, also those that read the data."""
    with started([sys.executable, SCRIPT, kind, tmp_path]) as run:
        wait_for(lambda: records(tmp_path) >= 5, run)
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(10) == 130
        complaint = run.communicate()[1]
    assert "Traceback" not in complaint, complaint
    assert newest(tmp_path) >= 5


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
