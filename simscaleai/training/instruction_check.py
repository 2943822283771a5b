"""Does the policy listen? Whether another instruction changes what it does first, measured while it trains.

    check = InstructionCheck.of(dataset)     # None where there is nothing to tell apart
    check(policy)                            # {"eval_instruction_effect": 0.93}

The loss does not tell. After a few steps of a demonstration the hand's own place says where it is going, so a
policy that reads no word copies nearly every step of the data, and then takes any object at random. The first
step is another matter: there the hand is always in the same place. So the check asks for actions in the same
first frames, for the recorded instruction and for others, and compares their distance with that of the first
actions of different episodes. It needs no simulator.
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
_OTHERS = 8  # requests that are tried beside the recorded one
_LEAST = 4  # episodes; of fewer, the distance between two says little
_PATIENCE = 0.25  # part of the run after which a policy should listen
_ADVICE = (
    "Demonstrations alone often do not teach it, since the place of the hand says what to do; train with"
    " data.relabel=1, on a dataset with labels for every instruction (`simscale data relabel` adds them)."
)
_OTHERWISE = (
    "The data ask for everything already (data.relabel), so look at the model: vla:film chooses by the words"
    " where to look, model.auxiliary teaches where things are, and a large learning rate may teach nothing."
)


class InstructionCheck:
    """See the module docstring.

    Args:
      obs: raw observations {key: (n, ...)} of the first steps of n episodes.
      actions: (n, action_dim), the recorded ones of these steps.
      instructions: n sentences, what the episodes were asked for.
      others: lists of n sentences that ask for something else, another request in each list.
      relabeled: whether training draws instructions anew (`data.relabel`), for the advice in the warning.
    """

    def __init__(
        self,
        obs: Mapping[str, torch.Tensor],
        actions: torch.Tensor,
        instructions: Sequence[str],
        others: Sequence[Sequence[str]],
        relabeled: bool = False,
    ) -> None:
        self._obs = {key: value.numpy() for key, value in obs.items()}
        self._instructions, self._others = list(instructions), [list(texts) for texts in others]
        self._relabeled, self._warned = relabeled, False
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
        sentences = list(known.values()) or [(text,) for text in sorted(set(recorded))]
        others = other_instructions(recorded, sentences)
        if len(recorded) < _LEAST or not others:
            return None
        check = cls(frames["observations"], frames["actions"], recorded, others, data.relabels)
        return check if check._spread > 0 else None

    def __call__(self, policy: ModelPolicy) -> dict[str, float]:
        """Return {METRIC: effect}: 0 if the first action is the same for any instruction.

        1 is an effect as large as the difference between the demonstrations of two episodes. Of several other
        requests the one counts that changes the action most: some ask for the same first step.
        """
        own = self._first_actions(policy, self._instructions)
        changes = [
            np.linalg.norm(own - self._first_actions(policy, texts), axis=1)
            for texts in self._others
        ]  # (n,) each
        return {METRIC: float(np.max(changes, axis=0).mean() / self._spread)}

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
        advice = _OTHERWISE if self._relabeled else _ADVICE
        return (
            f"The policy ignores its instruction so far: another one changes its first action by {effect:.1%}"
            f" of what those of two episodes differ by ({METRIC}). {advice}"
        )


def other_instructions(
    recorded: Sequence[str], sentences: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Return what else could have been asked, each time in the same words.

    Args:
      recorded: n sentences.
      sentences: those that ask for each of K requests.

    Returns:
      at most `_OTHERS` lists of n sentences; none if K is 1, or something recorded is none of `sentences`.
    """
    own = own_requests(recorded, sentences)
    if OWN in own:
        return []
    count = len(sentences)
    # spread over the requests: neighbors often have words in common
    offsets = np.linspace(1, count - 1, min(count - 1, _OTHERS)).round().astype(int)
    found = []
    for offset in offsets.tolist():
        asked = [sentences[(request + offset) % count] for request in own]
        phrasings = [list(sentences[k]).index(t) for k, t in zip(own, recorded, strict=True)]
        found.append([each[i % len(each)] for each, i in zip(asked, phrasings, strict=True)])
    return found
