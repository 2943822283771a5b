"""Environments that are closed and dropped leave nothing behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from simscaleai.sim import CameraConfig, make_env, make_vec_env

SMALL = {"cameras": [CameraConfig("front_cam", 16, 16)]}
KINDS: dict[str, Callable[[], Any]] = {
    "single": lambda: make_env("pick_place", cameras=[]),
    "randomized": lambda: make_env("pick_place", cameras=[], domain_randomization=True),
    "latent": lambda: make_env("reach_color", cameras=[]),
    "vector": lambda: make_vec_env("pick_place", 2, domain_randomization=True),
    "pictures": lambda: make_env("reach", **SMALL),
    "vector pictures": lambda: make_vec_env("reach", 2, **SMALL),
}


def run(env: Any) -> None:
    env.reset(seed=0)
    env.step(np.zeros(env.action_space.shape))
    env.close()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector only what nobody holds is freed: no circle of references may."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("no_collector")
def test_a_dropped_environment_is_freed_at_once(kind: str) -> None:
    if "pictures" in kind:
        pytest.importorskip("warp")
    env = KINDS[kind]()
    run(env)
    parts = {"environment": env, "sim": env.sim, "task": env.task, "qpos": env.sim.qpos}
    alive = {name: weakref.ref(part) for name, part in parts.items()}
    del env, parts
    assert [name for name, part in alive.items() if part() is not None] == []


def test_python_keeps_nothing_of_former_environments() -> None:
    for _ in range(2):
        run(KINDS["single"]())
    tracemalloc.start()
    sizes = []
    for _ in range(2):
        for _ in range(8):
            run(KINDS["single"]())
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] - sizes[0] < 2**20  # bytes, of 8 environments; one has 15 MiB


PROGRAM = """
import numpy as np
from simscaleai.sim import make_env, make_vec_env

def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

for i in range(500):
    if i == 100:  # by then the allocator has what it takes
        before = memory()
    env = make_vec_env("pick_place", 2) if i % 2 else make_env("pick_place", cameras=[])
    env.reset(seed=i)
    env.step(np.zeros(env.action_space.shape))
    env.close()
print(memory() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_of_the_process_does_not_grow() -> None:
    """MuJoCo's memory is counted here too. One arena, as each thread's takes some MiB of its own."""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    # The allocator alone makes the size swing by about 20 MiB; one environment has 15.
    assert float(ran.stdout) < 40  # MiB, for 400 environments


FORKS = """
import gc, os, sys
from simscaleai.sim import make_vec_env

envs = make_vec_env("reach", 2)
envs.reset(seed=0)
envs.circle = envs
held = make_vec_env("reach", 2)
gc.disable()
del envs
if (child := os.fork()) == 0:
    gc.collect()
    held = None
    sys.exit()
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_does_not_wait_for_threads_that_it_does_not_have() -> None:
    """A garbage collection in the worker of a data loader, for example, deletes what nobody uses any more."""
    command = [sys.executable, "-W", "ignore", "-c", FORKS]
    assert subprocess.run(command, capture_output=True, timeout=60).stdout == b"0\n"
