"""What the tests of simulation share: running an expert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def run_expert() -> Callable[..., dict[str, np.ndarray]]:
    """Drive every row of a reset vector environment by its expert until all succeed, or for `steps`.

    Returns `solved` (n,), `length` (n,) in steps, and the last info.
    """

    def run(env: Any, obs: dict[str, np.ndarray], steps: int) -> dict[str, np.ndarray]:
        expert = env.task.expert()
        solved = np.zeros(env.num_envs, dtype=bool)
        length = np.full(env.num_envs, steps)
        for step in range(steps):
            obs, _, terminated, _, info = env.step(expert.act(obs))
            length[terminated & ~solved] = step + 1
            solved |= terminated
            if solved.all():
                break
        return {
            "solved": solved,
            "length": length,
            **{k: v for k, v in info.items() if k[0] != "_"},
        }

    return run


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., str]:
    """Write a file of a user and return its path."""

    def write(text: str, name: str = "mine.xml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@pytest.fixture
def own() -> str:
    """A user's scene around the robot for `reach`, as text."""
    return """<mujoco model="mine">
  <include file="panda.xml"/>
  <include file="scene.xml"/>
  <worldbody>
    <body name="target" mocap="true"><geom size=".01" contype="0" conaffinity="0"/></body>
  </worldbody>
</mujoco>
"""
