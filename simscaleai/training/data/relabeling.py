"""Counterfactual instructions: each step of a dataset as a sample of every instruction.

In demonstrations each scene was asked for one thing, and after a few steps the hand's own place says which.
A policy can copy them without reading a word. So training may ask for something else in the same state, and
take the expert's action for that, which the dataset holds (`actions_by_instruction`). The place of the hand
then says nothing, and only the instruction tells what to do. CAST (Glossop et al., 2025, cast-vla.github.io)
makes such labels for real robots with a vision-language model; here the scripted expert makes them.

    relabeling = Relabeling(labels, sentences, own, fraction=1.0, seed=0)
    steps, requests = relabeling.draw(indices)      # sample numbers (B,) -> step numbers and requests, (B,)

With K requests there are K samples of each step, and sample i is step i // K with request i % K: an epoch has
every pair once, and what a sample holds is a function of (seed, i), whichever process reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from simscaleai import seeding
from simscaleai.errors import UserError
from simscaleai.storage.episode import LABELS
from simscaleai.storage.episodes import EpisodeSource
from simscaleai.training.data.step_values import Labels, PerStep

OWN = -1
"""The request of a sample that keeps the recorded instruction and actions."""
_PHRASINGS = 2**16


class Relabeling:
    """Draws requests and phrasings for samples; see the module docstring.

    Args:
      labels: (N, K, A), the expert's action for each request in each step.
      sentences: K tuples of sentences that ask for it.
      own: (N,) int64, the request of each step's episode; `OWN` where its instruction is none of `sentences`.
      fraction: of the samples that get a request drawn anew, in (0, 1].
      seed: decides which samples do, and how requests are phrased.
    """

    def __init__(
        self,
        labels: torch.Tensor | Labels,
        sentences: Sequence[Sequence[str]],
        own: torch.Tensor | PerStep,
        fraction: float,
        seed: int = 0,
    ) -> None:
        self.labels, self._sentences, self._own = labels, sentences, own
        rng = seeding.generator(seed, "relabel")
        # One number for each sample, of 3 bytes: less than the labels themselves take.
        self._relabeled = torch.from_numpy(rng.random(len(self)) < fraction)
        self._phrasing = rng.integers(_PHRASINGS, size=len(self), dtype=np.uint16)

    def __len__(self) -> int:
        """Number of samples, N K."""
        return self.labels.shape[0] * self.labels.shape[1]

    def draw(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the step and the request of samples, (B,) each; the request is `OWN` if it is not drawn."""
        steps, requests = indices // self.labels.shape[1], indices % self.labels.shape[1]
        return steps, torch.where(self._relabeled[indices], requests, OWN)

    def instructions(
        self, indices: torch.Tensor, requests: torch.Tensor, recorded: Sequence[str]
    ) -> list[str]:
        """Return the sentence of each sample, B of them; `recorded` are those of its episode."""
        drawn = zip(
            self._phrasing[indices.numpy()].tolist(), requests.tolist(), recorded, strict=True
        )
        return [
            sentence
            if request == OWN
            else self._sentences[request][phrasing % len(self._sentences[request])]
            for phrasing, request, sentence in drawn
        ]

    def actions(
        self, steps: torch.Tensor, requests: torch.Tensor, recorded: torch.Tensor
    ) -> torch.Tensor:
        """Return the action (B, A) for each request; `recorded` (B, A) is that of `OWN`."""
        labels = self.labels[steps, requests.clamp(min=0)]  # (B, A)
        return torch.where((requests == OWN)[:, None], recorded, labels)

    def chunks(
        self,
        windows: torch.Tensor,
        requests: torch.Tensor,
        recorded: torch.Tensor,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return action chunks (B, L, A) for each request, and which of their actions are known, (B, L).

        What would have followed the first action of another request has not happened. So only the first one
        is known, and fills its chunk.

        Args:
          windows: (B, L) numbers of the steps.
          recorded, mask: (B, L, A) and (B, L), chunks as they were recorded.
        """
        first = windows[:, 0]
        followed = (self._own[first] == requests)[:, None]  # (B, 1)
        steps = torch.where(followed, windows, first[:, None])  # (B, L)
        labels = self.labels[steps, requests.clamp(min=0)[:, None]]  # (B, L, A)
        kept = (requests == OWN)[:, None]  # (B, 1)
        known = kept | followed | (torch.arange(windows.shape[1]) == 0)  # (B, L)
        return torch.where(kept[:, :, None], recorded, labels), mask & known


def find_sentences(data: EpisodeSource) -> list[tuple[str, ...]]:
    """Return the sentences of each request of a dataset with labels.

    Raises:
      UserError: the dataset has no instructions to choose from, or no labels for them.
    """
    instructions = data.contract.instructions if data.contract is not None else {}
    labeled = LABELS in data.keys(data.example)
    if not labeled:
        remedy = (
            f"add them with `simscale data relabel {data.path} --output NEW`"
            if data.contract is not None
            else "set data.relabel to 0"
        )
        raise UserError(f"{data.path} has no labels for other instructions; {remedy}.")
    if not instructions or data.shape(data.example, LABELS)[1] != len(instructions):
        raise UserError(
            f"{data.path} does not say which instructions its labels are for; set data.relabel to 0, or"
            " generate it again."
        )
    return list(instructions.values())


def own_requests(languages: Sequence[str], sentences: Sequence[Sequence[str]]) -> list[int]:
    """Return the request of each instruction: the index of the entry of `sentences` that has it, or `OWN`."""
    known: Mapping[str, int] = {s: k for k, each in enumerate(sentences) for s in each}
    return [known.get(language, OWN) for language in languages]
