"""Table of the registered models and presets, with their numbers of parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from simscaleai.models.declarations import Declared
from simscaleai.models.registry import create_model, list_models, model_class, model_presets


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
      name: name for `create_model`.
      parameters: number of parameters with default arguments; None for a model without default arguments.
      inputs: observation entries that it reads, and "instruction" if it reads one.
      description: first paragraph of the docstring of its class.
    """

    name: str
    parameters: int | None
    inputs: str
    description: str


def overview() -> list[Entry]:
    """Return an entry for every registered model and each of its presets."""
    names = [
        full
        for name in list_models()
        for full in (name, *(f"{name}:{p}" for p in model_presets(name)))
    ]
    return [_entry(name) for name in names]


def _entry(name: str) -> Entry:
    doc = (model_class(name).__doc__ or "").strip().split("\n\n")[0]
    description = " ".join(doc.split())
    try:
        with torch.device("meta"):  # parameters have shapes and take no memory
            model = create_model(name)
    except TypeError:  # an argument without a default
        return Entry(name, None, "", description)
    return Entry(name, sum(p.numel() for p in model.parameters()), _inputs(model), description)


def _inputs(model: nn.Module) -> str:
    declared = Declared.of(model)
    inputs = list(declared.obs_keys) if declared.obs_keys is not None else ["all observations"]
    if declared.uses_language:
        inputs.append("instruction")
    return ", ".join(inputs)
