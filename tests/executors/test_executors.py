"""Tasks on engines of others: each item is done once, killed workers cost an item, errors end the run."""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from simscaleai.datagen import generate_dataset, render_dataset
from simscaleai.errors import MissingPackageError, UserError
from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
from simscaleai.executors import (
    MAX_TRIES,
    InProcess,
    Processes,
    Ray,
    Slurm,
    executor_from_text,
)
from tests.executors.items import die, die_once, fail, process_id, square

slow = pytest.mark.slow


def make(name: str, folder: Path):
    if name == "slurm":
        pytest.importorskip("submitit")
        return Slurm(2, folder / "logs", cluster="local")
    if name == "ray":
        pytest.importorskip("ray")
        return Ray(2)
    return {"process": InProcess(), "processes": Processes(2)}[name]


ENGINES = ["process", "processes", *(pytest.param(n, marks=slow) for n in ("slurm", "ray"))]


def needed(name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a test that needs an optional engine."""
    package = {"slurm": "submitit", "ray": "ray"}[name]
    missing = importlib.util.find_spec(package) is None
    return [slow, pytest.mark.skipif(missing, reason=f"needs {package}")]


@pytest.mark.parametrize("name", ENGINES)
def test_every_item_once_and_errors_end_the_run(tmp_path, name):
    executor = make(name, tmp_path)
    try:
        assert sorted(executor.run(square, range(5))) == [0, 1, 4, 9, 16]
        assert list(executor.run(square, [])) == []
        with pytest.raises(UserError, match=r"^The item 3 is wrong\.$"):
            list(executor.run(fail, [1, 3]))
    finally:
        executor.close()


@pytest.mark.parametrize("name", ENGINES[1:])
def test_killed_workers_cost_one_item(tmp_path, name):
    executor = make(name, tmp_path)
    try:
        assert sorted(executor.run(partial(die_once, tmp_path), range(3))) == [0, 1, 4]
    finally:
        executor.close()


def test_an_item_that_kills_every_worker_is_named():
    executor = Processes(1)
    try:
        with pytest.raises(UserError, match=rf"for part 7 were killed {MAX_TRIES} times"):
            list(executor.run(die, [7]))
    finally:
        executor.close()


def test_a_worker_that_is_killed_between_two_runs_is_replaced():
    executor = Processes(1)
    try:
        [worker] = executor.run(process_id, [0])
        os.kill(worker, signal.SIGKILL)
        [other] = executor.run(process_id, [0])
        assert other != worker
    finally:
        executor.close()


STARTING = """
import time
from pathlib import Path
from simscaleai.executors import Processes

if __name__ == "__main__":
    try:
        list(Processes(2, needs_main=True).run(abs, range(2)))
    except KeyboardInterrupt:
        print("stopped")
else:
    Path("importing").touch()
    time.sleep(0.5)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C to a process group")
def test_ctrl_c_while_workers_are_starting_ends_the_run_without_a_word(tmp_path):
    (tmp_path / "program.py").write_text(STARTING)
    process = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as of a terminal
    )
    while not (tmp_path / "importing").exists():
        time.sleep(0.01)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("stopped\n", "")


def test_closing_ends_the_workers():
    executor = Processes(2)
    results = executor.run(time.sleep, [0, 60])
    next(results)
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 30


def test_a_text_names_an_executor(tmp_path):
    assert isinstance(executor_from_text("processes", 2, tmp_path), Processes)
    for text, reason in {
        "dask": "Unknown executor 'dask'; known: processes, ray, slurm",
        "slurm:partition": r"The option 'partition' .* form name=value",
        "processes:a=1": "takes no option, and 'a' is one",
    }.items():
        with pytest.raises(UserError, match=reason):
            executor_from_text(text, 2, tmp_path)


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"needs {package}.*simscaleai\[{name}\]"):
        executor_from_text(name, 2, tmp_path)


def test_ray_gets_further_attempts_to_start(monkeypatch):
    """Ray gives itself half a minute, which is too short on a busy machine."""
    failures = iter([Exception("The current node timed out during startup.")] * 2)
    calls = []

    def init(**settings):
        calls.append("init")
        if (error := next(failures, None)) is not None:
            raise error

    fake = types.SimpleNamespace(
        init=init,
        is_initialized=lambda: False,
        shutdown=lambda: calls.append("shutdown"),
        util=types.SimpleNamespace(get_node_ip_address=lambda: addresses.pop()),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    addresses = ["192.0.2.2", "127.0.0.1"]
    executor = Ray(2)
    executor._start()
    assert calls == ["init", "shutdown", "init", "shutdown", "init"]
    failures = iter([ValueError("no such address")])
    with pytest.raises(UserError, match=r"started or joined: no such address\.$"):
        executor._start()
    # whoever reaches Ray may run what he likes
    with pytest.raises(UserError, match=r"listen at 192\.0\.2\.2, where other machines"):
        executor._start()
    assert calls[-1] == "shutdown"


def test_a_failure_of_ray_itself_is_one_sentence(monkeypatch):
    class RayError(Exception):
        pass

    def get(reference):
        raise RayError("The task's local raylet died. Check raylet.out.\nMore.")

    others = ("RayTaskError", "WorkerCrashedError", "OutOfMemoryError")
    fake = types.SimpleNamespace(
        exceptions=types.SimpleNamespace(
            RayError=RayError, **{name: type(name, (RayError,), {}) for name in others}
        ),
        is_initialized=lambda: True,
        remote=lambda **options: lambda f: types.SimpleNamespace(remote=lambda *args: "reference"),
        put=lambda task: task,
        wait=lambda references, num_returns: (references, []),
        get=get,
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(UserError, match=r"^Ray failed at part 3 \(The task.*died.*\); run again"):
        list(Ray(1).run(square, [3]))


@slow
def test_no_other_machine_reaches_a_ray_that_was_started_here():
    ray = pytest.importorskip("ray")
    executor = Ray(1)
    try:
        assert list(executor.run(square, [3])) == [9]
        assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}
    finally:
        executor.close()


@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="needs submitit")
def test_options_of_slurm(tmp_path):
    with pytest.raises(UserError, match="Unknown SLURM cluster 'lsf'"):
        executor_from_text("slurm:cluster=lsf", 2, tmp_path)
    with pytest.raises(UserError, match="submitit refuses"):
        executor_from_text("slurm:cluster=local,wings=2", 2, tmp_path)


SETTINGS = {
    "env_name": "reach",
    "n_episodes": 24,
    "policy_type": "scripted",
    "noise": 0.3,
    "max_steps": 30,
    "env_kwargs": {"dt": 0.01},
    "show_progress": False,
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> str:
    """The content hash of one file, made in one process."""
    path = tmp_path_factory.mktemp("whole") / "data.h5"
    return generate_dataset(output_path=path, **SETTINGS)["content_hash"]


@pytest.mark.parametrize(
    "how",
    [
        {"executor": InProcess()},
        {"workers": 2},
        pytest.param({"workers": 2, "executor": "slurm:cluster=local"}, marks=needed("slurm")),
        pytest.param({"workers": 2, "executor": "ray"}, marks=needed("ray")),
    ],
    ids=["process", "processes", "slurm", "ray"],
)
def test_the_same_content_from_every_engine(tmp_path, expected, how):
    made = generate_dataset(output_path=tmp_path / "big", shard_episodes=7, **SETTINGS, **how)
    assert made["content_hash"] == expected


def workers_of(name: str) -> list[int]:
    """Process ids of workers that descend from this process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rsplit(")")[-1].split()[1]
                )
            except OSError:
                continue
    sign = {"processes": b"spawn_main", "slurm": b"submitit.core._submit", "ray": b"ray::_call"}[
        name
    ]
    found = []
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if above == os.getpid() and sign in words:
            found.append(pid)
    return found


class Killer(threading.Thread):
    """Kills workers of this process at random moments, every second time one that is writing a shard.

    Never twice without a shard between: starting a worker takes longer than making a shard, and workers that
    are killed before they can begin would be all that is tested.
    """

    KILLS = 10

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        super().__init__()
        self._folder, self._name, self._rng = folder, name, random.Random(seed)
        self.stop = threading.Event()
        self.kills = 0

    def run(self) -> None:
        last = 0
        while self.kills < self.KILLS and not self.stop.wait(self._rng.uniform(0, 0.4)):
            if (time_of_newest := self._newest_shard()) <= last:
                continue
            found = self._writing() if self.kills % 2 else workers_of(self._name)
            if found and self._kill(self._rng.choice(found)):
                last = max(time.time_ns(), time_of_newest)
                self.kills += 1

    def _newest_shard(self) -> int:
        times = [0]
        for path in self._folder.glob("shard-*.h5"):
            with suppress(FileNotFoundError):
                times.append(path.stat().st_mtime_ns)
        return max(times)

    def _writing(self) -> list[int]:
        """Processes that have begun a shard: their numbers are in the names of temporary files."""
        names = [path.name for path in self._folder.glob(".shard-*.tmp")]
        return [pid for pid in workers_of(self._name) if any(f"-{pid}-" in n for n in names)]

    def _kill(self, pid: int) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


KILLED = {**SETTINGS, "policy_type": "random", "n_episodes": 16, "max_steps": 200}


@slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
# a job of SLURM is a Python of its own, so its work has to be longer
@pytest.mark.parametrize(("name", "episodes"), [("processes", 1), ("slurm", 4), ("ray", 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments_loses_nothing(tmp_path, name, episodes, seed):
    expected = generate_dataset(output_path=tmp_path / "whole.h5", **KILLED)["content_hash"]
    text = {"slurm": "slurm:cluster=local"}.get(name, name)
    killer, folder = Killer(tmp_path / "big", name, seed), tmp_path / "big"
    keeper = make(name, tmp_path)
    if name == "ray":
        keeper._start()  # once, and not for every run
    killer.start()
    try:
        for _ in range(100):
            try:
                how = {"workers": 2, "executor": text, "shard_episodes": episodes, "resume": True}
                made = generate_dataset(output_path=folder, **KILLED, **how)
            except UserError as error:  # the same shard was hit too often
                assert "were killed" in str(error)
                continue
            assert made["content_hash"] == expected
            if killer.kills == killer.KILLS:
                break
            for path in sorted(folder.glob("shard-*.h5"))[:-1]:
                path.unlink()  # to be made again, under fire
    finally:
        killer.stop.set()
        killer.join()
        keeper.close()
    assert killer.kills == killer.KILLS


SPREAD = [
    {"executor": InProcess()},
    pytest.param({"workers": 2}, marks=slow),
    pytest.param({"workers": 2, "executor": "slurm:cluster=local"}, marks=needed("slurm")),
    pytest.param({"workers": 2, "executor": "ray"}, marks=needed("ray")),
]
SPREAD_IDS = ["process", "processes", "slurm", "ray"]


@pytest.mark.parametrize("how", SPREAD, ids=SPREAD_IDS)
def test_an_evaluation_has_the_same_results_from_every_engine(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    env_kwargs = {"dt": 0.01, "max_episode_steps": 40}
    settings = {"n_episodes": 5, "seed": 3, "show_progress": False, "env_kwargs": env_kwargs}

    def evaluate(folder: str, **changes):
        made = SourceEvaluation(output_dir=folder, **{**settings, **changes})
        results = evaluate_source("random", made)
        assert not list(Path(folder).glob("*.partial.jsonl"))
        return {k: v for k, v in results.items() if k != "output_path"}

    whole = evaluate("whole")
    assert evaluate("spread", num_envs=2, **how) == whole
    # two chunks are enough: the interval is as narrow after the first episodes of the suite
    narrow = {"until_interval": 0.9, "n_episodes": 50}
    assert evaluate("spread", **narrow, **how) == evaluate("whole", **narrow)


@pytest.mark.parametrize("how", SPREAD, ids=SPREAD_IDS)
def test_images_are_the_same_from_every_engine(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    few = {**SETTINGS, "n_episodes": 4, "max_steps": 3}
    generate_dataset(output_path="data.h5", **few)
    how = {"show_progress": False, **how}
    whole = render_dataset("data.h5", "whole.h5", ["front_cam"], 16, show_progress=False)
    spread = render_dataset("data.h5", "spread.h5", ["front_cam"], 16, **how)
    assert spread["content_hash"] == whole["content_hash"]
    assert not list(tmp_path.glob("*.parts"))
    shards = render_dataset("data.h5", "shards", ["front_cam"], 16, shard_episodes=3, **how)
    assert shards["content_hash"] == whole["content_hash"]
    assert shards["shards"] == 2


def test_a_dataset_that_was_replaced_is_drawn_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = {**SETTINGS, "n_episodes": 1, "max_steps": 2}
    found = []
    for seed in (1, 2):
        generate_dataset(output_path="data.h5", **{**few, "seed": seed}, overwrite=True)
        how = {"show_progress": False, "overwrite": True, "executor": InProcess()}
        made = render_dataset("data.h5", "drawn.h5", ["front_cam"], 16, **how)
        whole = render_dataset("data.h5", "whole.h5", ["front_cam"], 16, overwrite=True)
        found.append(made["content_hash"])
        assert made["content_hash"] == whole["content_hash"]
    assert found[0] != found[1]
