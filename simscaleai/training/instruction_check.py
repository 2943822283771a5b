"""Does the policy listen? Whether another instruction changes what it does first, measured while it trains.

    check = InstructionCheck.of(dataset)     # None where there is nothing to tell apart
    check(policy)                            # {"eval_instruction_effect": 0.93}

The loss does not tell. After a few steps of a demonstration the hand's own place says where it is going, so a
policy that reads no word copies nearly every step of the data, and then takes any object at random. The first
step is another matter: there the hand is always in the same place. So the check asks for two actions in the
same first frames, one for the recorded instruction and one for another, and compares their distance with
that of the first actions of different episodes. It needs no simulator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai.models.policy import ModelPolicy
from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.data.relabeling import OWN, own_requests

METRIC = "eval_instruction_effect"
LISTENS = 0.1
"""Smallest effect of a policy that listens: a tenth of what two episodes differ by."""
_FRAMES = 64
_LEAST = 4  # episodes; of fewer, the distance between two says little
_PATIENCE = 0.25  # part of the run after which a policy should listen


class InstructionCheck:
    """See the module docstring.

    Args:
      obs: raw observations {key: (n, ...)} of the first steps of n episodes.
      actions: (n, action_dim), the recorded ones of these steps.
      instructions: n sentences, what the episodes were asked for.
      others: n sentences that ask for something else.
    """

    def __init__(
        self,
        obs: Mapping[str, torch.Tensor],
        actions: torch.Tensor,
        instructions: Sequence[str],
        others: Sequence[str],
    ) -> None:
        self._obs = {key: value.numpy() for key, value in obs.items()}
        self._sentences = (list(instructions), list(others))
        self._warned = False
        n = len(actions)
        # mean distance between the actions of two different episodes
        self._spread = torch.cdist(actions, actions).sum().item() / max(n * (n - 1), 1)

    @classmethod
    def of(cls, data: TrajectoryDataset) -> InstructionCheck | None:
        """Return the check for a dataset; None if it asks for one thing only, or has too few episodes.

        What asks for something else is known from datasets that list their instructions. In others it is any
        other sentence.
        """
        frames = data.first_steps(_FRAMES)
        recorded: list[str] = frames["language"]
        known = data.contract.instructions if data.contract is not None else {}
        pairs = [other_instruction(text, list(known.values())) for text in recorded]
        if not known:
            texts = sorted(set(recorded))
            following = dict(zip(texts, [*texts[1:], *texts[:1]], strict=True))
            pairs = [(text, following[text]) for text in recorded]
        if len(pairs) < _LEAST or any(own == other for own, other in pairs):
            return None
        own, others = zip(*pairs, strict=True)
        check = cls(frames["observations"], frames["actions"], own, others)
        return check if check._spread > 0 else None

    def __call__(self, policy: ModelPolicy) -> dict[str, float]:
        """Return {METRIC: effect}: 0 if the first action is the same for any instruction.

        1 is an effect as large as the difference between the demonstrations of two episodes.
        """
        own, other = (self._first_actions(policy, texts) for texts in self._sentences)
        effect = np.linalg.norm(own - other, axis=1).mean() / self._spread
        return {METRIC: float(effect)}

    def _first_actions(self, policy: ModelPolicy, instructions: list[str]) -> NDArray[np.float32]:
        """Return the first action (n, action_dim) of an episode with these instructions."""
        n = len(instructions)
        # the same seeds for both, so that a policy that samples draws the same noise
        policy.reset(np.ones(n, dtype=bool), [0] * n, instructions)
        return policy.predict_action_chunk(self._obs)[:, 0]  # (n, action_dim)

    def warning(self, step: int, max_steps: int, numbers: Mapping[str, float]) -> str | None:
        """Return what to tell the user of a policy that does not listen; once, and not too early."""
        effect = numbers.get(METRIC)
        early = step < _PATIENCE * max_steps
        if effect is None or effect >= LISTENS or early or self._warned:
            return None
        self._warned = True
        return (
            f"The policy ignores its instruction so far: another one changes its first action by {effect:.1%}"
            f" of what those of two episodes differ by ({METRIC}). Demonstrations alone often do not"
            " teach it, since the place of the hand says what to do; train with data.relabel=1, on a dataset"
            " with labels for every instruction (`simscale data relabel` adds them)."
        )


def other_instruction(text: str, sentences: Sequence[Sequence[str]]) -> tuple[str, str]:
    """Return a sentence with the meaning of `text`, and one of another request in the same words.

    Args:
      text: what an episode was asked.
      sentences: those that ask for each of K requests.

    Returns:
      twice `text`, if it is none of `sentences`.
    """
    (request,) = own_requests([text], sentences)
    if request == OWN:
        return text, text
    phrasing = list(sentences[request]).index(text)
    other = sentences[(request + 1) % len(sentences)]
    return text, other[phrasing % len(other)]
