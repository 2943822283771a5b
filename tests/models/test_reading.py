"""Observations as other code has them are read where they can mean one thing, else refused in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.models.reading import read_observations
from simscaleai.observations import ObsSpec, observation_leaves

SHAPES: dict[str, tuple[int, ...]] = {"arm/q": (3,), "force": (1,), "image": (2, 2, 3)}
SPEC = ObsSpec(SHAPES, {"arm/q": "float32", "force": "float32", "image": "uint8"})


def obs(n: int) -> dict[str, Any]:
    q = np.arange(3.0 * n, dtype=np.float32).reshape(n, 3)
    return {
        "arm/q": q,
        "force": q[:, :1],
        "image": np.zeros((n, 2, 2, 3), np.uint8),
        "more": "text",
    }


def same(given: Any, n: int = 2) -> None:
    found, wanted = read_observations(given, SPEC), obs(n)
    assert list(found) == list(SHAPES)
    for key, value in found.items():
        np.testing.assert_array_equal(value, wanted[key])


def test_arrays_tensors_and_lists_mean_the_same() -> None:
    given = obs(2)
    same(given)
    same({key: torch.tensor(given[key], requires_grad=key == "force") for key in SHAPES})
    same({key: given[key].tolist() for key in SHAPES})
    same({key: np.asfortranarray(given[key]) for key in SHAPES})
    same({**given, "force": given["force"][:, 0]})  # a number for each row
    same({"arm": {"q": given["arm/q"]}, "force": given["force"], "image": given["image"]})
    same(obs(0), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm/q": np.zeros((2, 4))}, r"'arm/q' has the shape \(4,\) per env, expected \(3,\)"),
        ({"arm/q": np.zeros((3, 3))}, "'arm/q' has 3, 'force' has 2"),
        ({"arm/q": [[1, 2, 3], [1, 2]]}, "'arm/q' cannot be made an array of numbers"),
        ({"arm/q": None}, "'arm/q' cannot be made an array of numbers"),
        ({"arm/q": np.array([[0, np.inf, 0], [0, 0, 0]])}, "'arm/q' is not finite .* in env 0"),
        ({"force": [[0.0], [np.nan]]}, "'force' is not finite .* in env 1"),
    ],
)
def test_what_fits_no_reading_is_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_observations({**obs(2), **change}, SPEC)
    assert "\n" not in str(error.value)


def test_a_single_observation_is_told_how_to_be_one_row() -> None:
    with pytest.raises(UserError, match=r"leading axis.*value\[None\]"):
        read_observations({key: value[0] for key, value in obs(2).items() if key != "more"}, SPEC)
    with pytest.raises(
        UserError, match="'arm/q' is missing; 'force' is missing; 'image' is missing"
    ):
        read_observations({}, SPEC)
    with pytest.raises(UserError, match="it is empty"):
        read_observations({}, None)


def test_a_policy_of_one_vector_takes_what_it_is_made_of() -> None:
    spec = ObsSpec({"state": (4,)}, {"state": "float32"})
    whole = np.arange(8.0).reshape(2, 4)
    parts = {
        "b": whole[:, 1:3],
        "a": whole[:, 0],
        "c": whole[:, 3:],
        "image": np.zeros((2, 4, 4, 3)),
    }
    for given in (
        whole,
        {"state": whole},
        parts,
        {"a": whole[:, 0], "b": whole[:, 1:].reshape(2, 3, 1)},
    ):
        np.testing.assert_array_equal(read_observations(given, spec)["state"], whole)
    with pytest.raises(UserError, match=r"'state' has the shape \(3,\) per env, expected \(4,\)"):
        read_observations({"a": whole[:, :3]}, spec)


def test_one_vector_is_cut_into_what_a_policy_reads() -> None:
    spec = ObsSpec({"b": (2, 1), "a": (), "c": (1,)}, dict.fromkeys("abc", "float32"))
    state = np.arange(8.0).reshape(2, 4)
    for given in (state, {"state": state.tolist()}):
        found = read_observations(given, spec)
        assert {key: value.shape for key, value in found.items()} == {
            "b": (2, 2, 1),
            "a": (2,),
            "c": (2, 1),
        }
        np.testing.assert_array_equal(
            np.concatenate([v.reshape(2, -1) for v in found.values()], 1), state
        )
    with pytest.raises(UserError, match="'b' is missing; 'a' is missing; 'c' is missing"):
        read_observations(state[:, :3], spec)


def test_parts_of_nested_observations() -> None:
    nested = {"robot": {"q": 1, "grip": (2, 3)}, "goal": 4}
    assert observation_leaves(nested) == {
        "robot/q": 1,
        "robot/grip/0": 2,
        "robot/grip/1": 3,
        "goal": 4,
    }
    assert observation_leaves((1, {"a": 2})) == {"0": 1, "1/a": 2}
    assert observation_leaves([1, 2]) == {"state": [1, 2]}


class TestPolicy:
    def policy(self) -> ModelPolicy:
        torch.manual_seed(0)
        spec = ObsSpec({"q": (3,)}, {"q": "float32"})
        statistics = {"state": Statistics.of(torch.randn(50, 3))}
        return ModelPolicy(
            create_model("bc", state_dim=3, hidden_dim=8), spec, Normalizer(statistics)
        )

    def test_no_rows_have_no_actions(self) -> None:
        for horizon in ({}, {"action_horizon": 4, "n_action_steps": 2}):
            policy = ModelPolicy(create_model("bc", state_dim=3, hidden_dim=8, **horizon))
            policy.reset(np.zeros(0, bool), [])
            assert policy.act({"q": np.zeros((0, 3), np.float32)}).shape == (0, 4)

    def test_numbers_that_do_not_go_together(self) -> None:
        policy = self.policy()
        with pytest.raises(UserError, match="3 seeds for 2 envs"):
            policy.reset(np.ones(2, bool), [1, 2, 3])
        policy.declared = create_told()
        with pytest.raises(UserError, match="4 instructions for 2 envs"):
            policy.reset(np.ones(2, bool), [1, 2], "left")
        policy.reset(np.ones(2, bool), [1, 2], ["left", "right"])
        with pytest.raises(UserError, match="2 instructions and acts for 3 envs"):
            policy.act({"q": np.zeros((3, 3), np.float32)})


def create_told() -> Any:
    from simscaleai.models.declarations import Declared

    return Declared(uses_language=True)
