"""What there is to choose from: every model and preset, counted without taking memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from simscaleai.models.declarations import Declared
from simscaleai.models.registry import create_model, list_models, model_class, model_presets


@dataclass(frozen=True)
class Entry:
    """One name.

    Attributes:
      name: as `create_model` takes it.
      parameters: how many, with the defaults of its arguments; None for a model that has no defaults.
      inputs: what it reads.
      description: the first sentence of its class.
    """

    name: str
    parameters: int | None
    inputs: str
    description: str


def overview() -> list[Entry]:
    """Every registered model and each of its presets."""
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
        with torch.device("meta"):
            model: Any = create_model(name)
    except TypeError:  # an argument without a default
        return Entry(name, None, "", description)
    return Entry(name, sum(p.numel() for p in model.parameters()), _inputs(model), description)


def _inputs(model: Any) -> str:
    declared = Declared.of(model)
    inputs = list(declared.obs_keys) if declared.obs_keys is not None else ["all observations"]
    if declared.uses_language:
        inputs.append("instruction")
    return ", ".join(inputs)
