"""A policy that hears another instruction first."""

from __future__ import annotations

import numpy as np

from simscaleai.rollout.switched_instructions import SwitchedInstructions

SENTENCES = {"red": ("go to red", "red, please"), "blue": ("go to blue",)}


class Noting:
    """Notes the instructions that it has at every step."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self._now: list[str] = []

    def reset(self, mask, seeds, instructions=None):
        self._now = list(instructions)

    def act(self, obs):
        self.heard.append(list(self._now))
        return np.zeros((len(self._now), 4), np.float32)


def test_another_instruction_comes_first():
    noting = Noting()
    policy = SwitchedInstructions(noting, SENTENCES, max_steps=40)
    policy.reset(np.array([True, True]), [1, 2], ["red, please", "go to blue"])
    for _ in range(12):
        policy.act({})
    first, second = ([heard[i] for heard in noting.heard] for i in (0, 1))
    assert set(first) == {"go to blue", "red, please"} and first[0] == "go to blue"
    assert set(second) - {"go to blue"} <= set(SENTENCES["red"]) and second[0] != "go to blue"
    # once in an episode, and its own from then on
    assert first == sorted(first) and first[-1] == "red, please" and second[-1] == "go to blue"
    alone = SwitchedInstructions(again := Noting(), SENTENCES, max_steps=40)
    alone.reset(np.array([True]), [2], ["go to blue"])
    for _ in range(12):
        alone.act({})
    assert [heard[0] for heard in again.heard] == second  # of the seed alone


def test_the_policy_hears_that_an_env_rests():
    class Resting(Noting):
        def rest(self, mask):
            self.rested = mask

    policy = Resting()
    mask = np.array([True, False])
    SwitchedInstructions(policy, SENTENCES, max_steps=40).rest(mask)
    assert policy.rested is mask
    SwitchedInstructions(Noting(), SENTENCES, max_steps=40).rest(
        mask
    )  # which does not want to know
