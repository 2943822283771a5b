"""Table of the registered models and presets, with their numbers of parameters.

The entries of built-in models are recorded in `overview.json`, as importing PyTorch takes seconds.
`python scripts/generate_reference.py` writes the file, and a test compares it with the models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simscaleai.models.registry import (
    added_models,
    create_model,
    list_models,
    model_arguments,
    model_class,
    model_presets,
)

if TYPE_CHECKING:
    from torch import nn

RECORDED = Path(__file__).with_name("overview.json")


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
      name: name for `create_model`.
      parameters: number of parameters with default arguments; None for a model without default arguments.
      inputs: observation entries that it reads, and "instruction" if it reads one.
      description: first paragraph of the docstring of its class.
      arguments: arguments with their defaults, as in Python.
    """

    name: str
    parameters: int | None
    inputs: str
    description: str
    arguments: str


def overview() -> list[Entry]:
    """Return an entry for every registered model and each of its presets."""
    recorded = _recorded()
    own = added_models()
    entries: list[Entry] = []
    for name in list_models():
        # one that is new in the package has no recorded entry yet
        known = [] if name in own else [e for e in recorded if e.name.partition(":")[0] == name]
        entries += known or _entries(name)
    return entries


def find_entry(name: str) -> Entry:
    """Return the entry of a model or preset; UserError lists the known names."""
    if name.partition(":")[0] not in added_models():
        for entry in _recorded():
            if entry.name == name:
                return entry
    return _entry(name)


def record() -> str:
    """Return the text of `overview.json` for the built-in models as they are now."""
    entries = [e for name in list_models() if name not in added_models() for e in _entries(name)]
    return json.dumps([asdict(entry) for entry in entries], indent=1) + "\n"


def _recorded() -> list[Entry]:
    return [Entry(**fields) for fields in json.loads(RECORDED.read_text(encoding="utf-8"))]


def _entries(name: str) -> Iterator[Entry]:
    """Yield the entries of a model and its presets, which are built for this purpose."""
    for full in (name, *(f"{name}:{preset}" for preset in model_presets(name))):
        yield _entry(full)


def _entry(name: str) -> Entry:
    import torch

    doc = (model_class(name).__doc__ or "").strip().split("\n\n")[0]
    description = " ".join(doc.split())
    pairs = (f"{key}={default!r}" for key, default in model_arguments(name).items())
    arguments = ", ".join(pairs)
    try:
        with torch.device("meta"):  # parameters have shapes and take no memory
            model = create_model(name)
    except TypeError:  # an argument without a default
        return Entry(name, None, "", description, arguments)
    count = sum(p.numel() for p in model.parameters())
    return Entry(name, count, _inputs(model), description, arguments)


def _inputs(model: nn.Module) -> str:
    from simscaleai.models.declarations import Declared

    declared = Declared.of(model)
    inputs = list(declared.obs_keys) if declared.obs_keys is not None else ["all observations"]
    if declared.uses_language:
        inputs.append("instruction")
    return ", ".join(inputs)
