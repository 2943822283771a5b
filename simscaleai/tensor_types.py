"""Types of tensors that models and training share; `array_types` has those of NumPy arrays."""

from __future__ import annotations

from typing import Any, NotRequired, TypeAlias, TypedDict, Union

import torch

Tensors: TypeAlias = dict[str, torch.Tensor]
"""Tensors by name: observations {key: (B, ...)}, a model's outputs, the weights of a module."""

TensorTree: TypeAlias = dict[str, Union[torch.Tensor, "TensorTree"]]
"""Tensors in nested dicts, as a checkpoint holds those of an optimizer."""

StateDict: TypeAlias = dict[str, Any]
"""Tensors and plain values by name: the state of one component, or a whole checkpoint."""


class Batch(TypedDict):
    """Samples that a model learns from, each entry with a leading axis of B samples.

    A loader of a user's own may give other batches to a model of a user's own.
    """

    observations: Tensors
    """{key: (B, ...)}, or (B, H, ...) for a model that reads H steps; images are (B, C, h, w) in [0, 1]."""

    actions: torch.Tensor
    """(B, A), or (B, L, A) for a model that predicts chunks of L actions."""

    mask: NotRequired[torch.Tensor]
    """(B, L) bool, False where a chunk reaches past the end of its episode."""

    obs_mask: NotRequired[torch.Tensor]
    """(B, H) bool, False where a window reaches back past the start of its episode."""

    language: NotRequired[list[str]]
    """B instructions."""

    privileged: NotRequired[Tensors]
    """{key: (B, 3)} positions in m that only the simulator knows; see `models.declarations`."""
