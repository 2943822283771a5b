"""`call`, `get_attr` and `set_attr` answer as Gymnasium's own vector environment does."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from simscaleai.sim import make_env, make_vec_env

FAST: dict[str, Any] = {"dt": 0.005, "cameras": [], "render_mode": "rgb_array"}


@pytest.fixture
def both() -> Iterator[list[Any]]:
    ours = make_vec_env("reach_color", 3, **FAST)
    theirs = SyncVectorEnv([lambda: make_env("reach_color", **FAST)] * 3)
    for envs in (ours, theirs):
        envs.reset(seed=4)
        envs.step(np.full((3, 4), 0.2, np.float32))
    yield [ours, theirs]
    ours.close()
    theirs.close()


OF_EACH = ["instruction", "observation_space", "action_space", "np_random_seed"]
SHARED = ["config", "render_mode", "substeps", "contract"]


@pytest.mark.parametrize("name", [*OF_EACH, *SHARED])
def test_each_environment_answers_as_a_single_one(both: list[Any], name: str) -> None:
    ours, theirs = (envs.call(name) for envs in both)
    assert ours == theirs and isinstance(ours, tuple) and len(ours) == 3
    assert both[0].get_attr(name) == ours


@pytest.mark.parametrize("name", ["render", "states"])
def test_arrays_of_each_environment(both: list[Any], name: str) -> None:
    ours, theirs = (envs.call(name) for envs in both)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_attributes_are_set_for_each_or_for_all(both: list[Any]) -> None:
    for envs in both:
        envs.set_attr("level", [1, 2, 3])
        envs.set_attr("name", "lesson")
        envs.set_attr("render_mode", None)
        assert envs.get_attr("level") == (1, 2, 3)
        assert envs.get_attr("name") == ("lesson",) * 3
        assert envs.get_attr("render_mode") == (None,) * 3
    assert both[0].render() is None
    assert pickle.loads(pickle.dumps(both[0])).get_attr("level") == (1, 2, 3)


def test_refusals(both: list[Any], refused: Callable[..., str]) -> None:
    envs = both[0]
    with pytest.raises(AttributeError, match="nothing"):
        envs.call("nothing")
    refused(lambda: envs.call("step", np.zeros(4)), "step", "all environments at once")
    refused(lambda: envs.set_attr("level", [1, 2]), "2 values", "'level'", "3 environments")
    refused(lambda: envs.set_attr("render_mode", ["rgb_array", None, None]), "'render_mode'", "one")
