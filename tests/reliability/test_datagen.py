"""Data generation that is killed, interrupted and spread out gives the same dataset."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simscaleai.datagen import content_hash, generate_dataset, validate_dataset

RUN = Path(__file__).with_name("datagen_run.py")


def settings():
    scope: dict = {"__name__": "settings"}
    exec(compile(RUN.read_text(), RUN, "exec"), scope)
    return scope["SETTINGS"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The content hash of a run that nothing disturbed."""
    path = tmp_path_factory.mktemp("whole") / "data.h5"
    return generate_dataset(output_path=path, **settings())["content_hash"]


def start(output, workers=1):
    process = subprocess.Popen(
        [sys.executable, RUN, output, str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begin\n"
    return process


def files(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("env_name", ["reach", pytest.param("pick_place", marks=pytest.mark.slow)])
def test_content_is_the_same_for_any_width_and_number_of_workers(tmp_path, env_name):
    same = {
        "env_name": env_name,
        "n_episodes": 9,
        "policy_type": "scripted",
        "noise": 0.2,
        "max_steps": 30,
        "next_obs": True,
        "env_kwargs": {"dt": 0.01},
        "show_progress": False,
    }
    hashes = {}
    for width, workers in ((1, 1), (3, 1), (8, 2)):
        path = tmp_path / f"{width}-{workers}.h5"
        stats = generate_dataset(output_path=path, num_envs=width, workers=workers, **same)
        hashes[width, workers] = stats["content_hash"]
        assert validate_dataset(path).errors == []
    assert len(set(hashes.values())) == 1, hashes
    assert len(files(tmp_path)) == 3


def kill_until_done(output, kills, rng, workers):
    """Kill runs at random moments; return the hash that the run left alone at last prints."""
    for _ in range(kills):
        process = start(output, workers)
        time.sleep(rng.uniform(0.0, 0.7))
        process.kill()
        process.communicate()
        # Never an unreadable or half file: none, or the complete one.
        if output.exists():
            assert validate_dataset(output).ok
        assert set(files(output.parent)) <= {"data.h5", "data.h5.parts"}
    process = start(output, workers)
    printed, _ = process.communicate(timeout=120)
    return printed.split()[0]


def test_killed_once(tmp_path, expected):
    output = tmp_path / "data.h5"
    assert kill_until_done(output, 1, random.Random(0), workers=1) == expected
    assert content_hash(output) == expected
    assert files(tmp_path) == ["data.h5"]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "workers"), [(1, 1), (2, 1), (3, 2)])
def test_killed_at_more_moments(tmp_path, expected, seed, workers):
    output = tmp_path / "data.h5"
    assert kill_until_done(output, 5, random.Random(seed), workers) == expected
    assert validate_dataset(output).ok
    assert files(tmp_path) == ["data.h5"]


def wait_for_a_part(process, folder):
    while not list(folder.glob("data.h5.parts/*.npz")):
        time.sleep(0.005)
        assert process.poll() is None, process.communicate()[1]


def worker_processes(process):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_stops_in_seconds_and_keeps_what_is_finished(tmp_path, expected, workers):
    output = tmp_path / "data.h5"
    process = start(output, workers)
    wait_for_a_part(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode != 0
    assert "--resume to go on" in complaint
    assert not output.exists()
    process = start(output, workers)
    content, resumed = process.communicate(timeout=120)[0].split()
    assert content == expected
    assert int(resumed) >= 4
    assert files(tmp_path) == ["data.h5"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("begun", [False, True], ids=["starting", "at work"])
def test_a_worker_that_is_killed_costs_nothing(tmp_path, expected, begun):
    process = start(tmp_path / "data.h5", workers=2)
    if begun:
        wait_for_a_part(process, tmp_path)
    while len(found := worker_processes(process)) < 2:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(found[1], signal.SIGKILL)
    printed, complaint = process.communicate(timeout=120)
    assert (process.returncode, complaint) == (0, "")
    assert printed.split()[0] == expected
    assert files(tmp_path) == ["data.h5"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_with_their_main_process(tmp_path):
    process = start(tmp_path / "data.h5", workers=2)
    wait_for_a_part(process, tmp_path)
    workers = worker_processes(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
