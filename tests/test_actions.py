"""Ranges of actions: the box is kept to the last bit, and what is no box of numbers is named."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from simscaleai.actions import ActionRange
from simscaleai.errors import UserError


def box(low, high, dtype="float32") -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=np.dtype(dtype).type)


@pytest.mark.parametrize(
    "space",
    [
        box([-1, -1], [1, 1]),
        box([-50], [50]),
        box([0, -2, 5], [1, 7, 5]),  # asymmetric, one for each entry, one that cannot move
        box([-0.1, 0.1], [0.3, 0.7], "float64"),
        box([[0, 1], [2, 3]], [[1, 2], [3, 4]]),
        box(-0.3, 0.3),
        box([0.1], [0.1 + 1e-6], "float64"),
        box([-1e30], [3e30]),
        box([-0.1], [0.3], "float16"),
    ],
)
def test_executed_actions_are_of_the_space_and_reach_both_bounds(space: spaces.Box) -> None:
    actions = ActionRange.of(space)
    units = np.random.default_rng(0).normal(size=(200, actions.width)).astype(np.float32) * 2
    executed = actions.executed(units)
    assert executed.shape == (200, *space.shape) and executed.dtype == space.dtype
    assert all(space.contains(np.asarray(action)) for action in executed)
    low, high = (actions.executed(np.full(actions.width, s, np.float32)) for s in (-3, 3))
    np.testing.assert_array_equal(low, space.low)
    np.testing.assert_array_equal(high, space.high)
    middle = actions.executed(np.zeros(actions.width, np.float32))
    wide = space.low.astype(float), space.high.astype(float)
    np.testing.assert_allclose(middle, (wide[0] + wide[1]) / 2, rtol=1e-3)
    again = ActionRange.from_dict(actions.to_dict())
    assert again.same_as(actions)
    np.testing.assert_array_equal(again.executed(units), executed)


def test_units_are_the_way_back() -> None:
    actions = ActionRange.of(box([0, -2, 5], [1, 7, 5]))
    units = np.float32([[-1, 0.5, 0], [0.25, 1, 0]])
    np.testing.assert_allclose(actions.units(actions.executed(units)), units, atol=1e-6)


def test_between_minus_one_and_one_nothing_changes() -> None:
    units = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(ActionRange.unit(4).executed(units), units.clip(-1, 1))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Discrete(3), "is a Discrete, and agents act in a Box"),
        (spaces.MultiDiscrete([2, 2]), "is a MultiDiscrete"),
        (spaces.MultiBinary(3), "is a MultiBinary"),
        (spaces.Dict(a=box([0], [1])), "is a Dict"),
        (spaces.Tuple((box([0], [1]),)), "is a Tuple"),
        (spaces.Box(0, 255, (2,), np.uint8), "a Box of uint8"),
        (spaces.Box(-np.inf, np.inf, (2,)), "Entry 0 .* -inf and inf"),
        (box([0, -1], [1, np.inf]), "Entry 1 .* -1 and inf"),
        (None, "is a NoneType"),
    ],
)
def test_what_cannot_be_acted_in_is_named(space, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        ActionRange.of(space)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"low": [0], "high": [1], "shape": [2], "dtype": "float32"},
        {"low": [1], "high": [0], "shape": [1], "dtype": "float32"},
        {"low": [0], "high": ["a"], "shape": [1], "dtype": "float32"},
        {"low": [0], "high": [1], "shape": [1], "dtype": "object"},
        {"low": [0], "high": [float("nan")], "shape": [1], "dtype": "float32"},
    ],
)
def test_damaged_ranges_are_no_ranges(saved: dict) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        ActionRange.from_dict(saved)
