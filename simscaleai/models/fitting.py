"""Weights from a file and the module that they are for: compared before memory is taken.

A file of a few bytes may describe a model of any size. So it is built on PyTorch's meta device first, where
tensors have shapes and no memory; only if all of them are those of the weights, which are there, it is built
in earnest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from simscaleai.errors import UserError

_Module = TypeVar("_Module", bound=nn.Module)

# A module may register more than its file holds: tables that are not saved, layers that are replaced.
_TIMES = 4
_SPARE_TENSORS = 1000
_SPARE_NUMBERS = 2**24
_SLOTS = ("exp_avg", "exp_avg_sq")


def build_for(
    weights: Any,
    build: Callable[[], _Module],
    source: str,
    part: Callable[[_Module], nn.Module] = lambda module: module,
) -> _Module:
    """Return what `build` makes, with the weights loaded; arguments and errors as of `require_fit`."""
    require_fit(weights, build, source, part)
    with torch.random.fork_rng(devices=[]):  # initial weights are overwritten
        module = build()
    load_weights(part(module), weights, source)
    return module


def require_fit(
    weights: Any,
    build: Callable[[], _Module],
    source: str,
    part: Callable[[_Module], nn.Module] = lambda module: module,
) -> None:
    """Check that weights fit what `build` would make, without the memory that it would take.

    Args:
      weights: {name: tensor} from a file.
      build: makes the module.
      source: what errors call the file.
      part: of the module, whose weights they are.

    Raises:
      UserError: names or shapes differ; says how.
    """
    check_tensors(weights, source)
    try:
        with _no_more_than(weights, source), torch.device("meta"):
            shapes = part(build()).state_dict()
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):
            raise
        return  # a user's model, whose constructor looks at values
    check_fit(shapes, weights, source)


def load_weights(module: nn.Module, weights: Any, source: str) -> None:
    """Copy `weights` into `module`; one UserError with every difference if they do not fit."""
    check_fit(module.state_dict(), weights, source)
    module.load_state_dict(weights)


def check_tensors(weights: Any, source: str) -> None:
    """UserError unless `weights` is {name: tensor of real numbers}."""
    if not isinstance(weights, Mapping) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) and not v.is_complex()
        for k, v in weights.items()
    ):
        raise UserError(
            f"The weights in {source!r} are not tensors by name; use another checkpoint."
        )


def check_fit(own: Mapping[str, torch.Tensor], weights: Any, source: str) -> None:
    """UserError with every name and shape in which `weights` are not those of a module."""
    check_tensors(weights, source)
    wrong = [f"{k} is missing" for k in own if k not in weights]
    wrong += [f"{k} is not known" for k in weights if k not in own]
    for key in own.keys() & weights.keys():
        if own[key].shape != weights[key].shape:
            shapes = f"{tuple(weights[key].shape)}, expected {tuple(own[key].shape)}"
            wrong.append(f"{key} has shape {shapes}")
    if wrong:
        raise UserError(
            f"The weights in {source!r} do not fit the model: " + "; ".join(sorted(wrong)) + "."
        )


@contextmanager
def _no_more_than(weights: Mapping[str, torch.Tensor], source: str) -> Iterator[None]:
    """Stop building a module that has far more than `weights`: layers take memory without numbers too."""
    tensors = _TIMES * len(weights) + _SPARE_TENSORS
    numbers = _TIMES * sum(w.numel() for w in weights.values()) + _SPARE_NUMBERS

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal tensors, numbers
        if tensor is not None:
            tensors, numbers = tensors - 1, numbers - tensor.numel()
        if tensors < 0 or numbers < 0:
            raise UserError(
                f"The weights in {source!r} do not fit the model: it is described as far larger than"
                f" the {len(weights)} tensors that are there."
            )

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_slots(state: Any, parameters: Sequence[torch.Tensor], source: str) -> None:
    """UserError unless `state` is what an Adam optimizer remembers: {number of a parameter: its tensors}.

    Each has "step", one number, and "exp_avg" and "exp_avg_sq" of the shape of the parameter.
    """
    fits = isinstance(state, Mapping) and all(
        type(i) is int
        and 0 <= i < len(parameters)
        and isinstance(slots, Mapping)
        and set(slots) == {"step", *_SLOTS}
        and all(isinstance(slot, torch.Tensor) for slot in slots.values())
        and slots["step"].numel() == 1
        and all(slots[name].shape == parameters[i].shape for name in _SLOTS)
        for i, slots in state.items()
    )
    if not fits:
        raise UserError(
            f"The optimizer's state in {source!r} does not fit the model; use another checkpoint."
        )
