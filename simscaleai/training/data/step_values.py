"""Values of steps as if they were one tensor: labels of requests, and what the steps of an episode share."""

from __future__ import annotations

import torch

from simscaleai.training.data.vector_layout import VectorLayout
from simscaleai.training.data.vectors import Vectors


class Labels:
    """The label of every step and request, as if it were a tensor (N, K, A)."""

    def __init__(self, vectors: Vectors, layout: VectorLayout) -> None:
        self._vectors = vectors
        self.shape = len(vectors), layout.requests, layout.action_dim

    def __getitem__(self, at: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return labels (..., A) of steps and requests, whose shapes are broadcast to each other."""
        steps, requests = torch.broadcast_tensors(*at)
        labels = self._vectors.take("labels", steps).unflatten(-1, self.shape[1:])  # (..., K, A)
        index = requests[..., None, None].expand(*requests.shape, 1, self.shape[2])
        return labels.gather(-2, index).squeeze(-2)


class PerStep:
    """Values of every step that are the same for all steps of an episode.

    Args:
      values: (episodes,).
      ends: (episodes,) the step after the last one of each episode.
    """

    def __init__(self, values: torch.Tensor, ends: torch.Tensor) -> None:
        self._values, self._ends = values, ends

    def __getitem__(self, steps: torch.Tensor) -> torch.Tensor:
        return self._values[torch.searchsorted(self._ends, steps.contiguous(), right=True)]
