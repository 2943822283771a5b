"""What all tests use; and one thread for PyTorch, whose tensors are small here.

Two threads that wait for each other on a busy machine make such tests ten times slower.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from simscaleai.errors import UserError

os.environ.setdefault("OMP_NUM_THREADS", "1")
gc.disable()  # until all is imported, see below


def pytest_collection_finish() -> None:
    """Take what the imports made out of garbage collection, which would look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@functools.cache
def _registries() -> list[dict[str, Any]]:
    """What is known by name in this process."""
    from simscaleai.models.registry import _models
    from simscaleai.rl.agents.agent import _agents
    from simscaleai.sim.factory import _ENVS
    from simscaleai.sim.robots.controllers import _CONTROLLERS
    from simscaleai.sim.robots.robot import _ROBOTS
    from simscaleai.training.optimizers import _optimizers
    from simscaleai.training.schedules import _schedules

    ours = (_models, _agents, _ENVS, _CONTROLLERS, _ROBOTS, _optimizers, _schedules)
    return [gymnasium.registry, *(registry._entries for registry in ours)]


@pytest.fixture(autouse=True)
def scratch_registries() -> Iterator[None]:
    """Names that a test registers are gone after it: any other test may come next in this process."""
    before = [set(registry) for registry in _registries()]
    yield
    for registry, known in zip(_registries(), before, strict=True):
        for name in registry.keys() - known:
            del registry[name]


@pytest.fixture
def refused() -> Callable[..., str]:
    """Call a function that must raise UserError in one sentence that has all of `mentions` in it."""

    def check(call: Callable[[], Any], *mentions: str) -> str:
        with pytest.raises(UserError) as caught:
            call()
        text = str(caught.value)
        assert "\n" not in text and text.endswith((".", "?")), text
        for part in mentions:
            assert part in text, f"{part!r} is not in {text!r}"
        return text

    return check


@pytest.fixture(scope="session")
def launch() -> Callable[..., list[Any]]:
    """Run a script in several processes that find each other as if torchrun had started them.

    launch(size, script, *arguments) gives what each process printed as its last line, read as JSON. A
    launcher of its own would take as long again as the processes do.
    """

    def run(size: int, script: Path, *arguments: Any, timeout: float = 600) -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        started = [
            subprocess.Popen(
                [sys.executable, str(script), *map(str, arguments)],
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        try:
            outputs = [process.communicate(timeout=timeout) for process in started]
        finally:
            for process in started:
                process.kill()
        complaints = "\n".join(err[-3000:] for _, err in outputs)
        assert all(process.returncode == 0 for process in started), complaints
        return [json.loads(out.splitlines()[-1]) for out, _ in outputs]

    return run
