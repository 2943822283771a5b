"""Comparison of weights from a file with the module they are for, before any memory is allocated.

A file of a few bytes may describe a model of any size. The module is therefore built on PyTorch's meta device
first, where tensors have shapes and no memory. It is built with memory only if all names and shapes are those
of the weights in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from simscaleai.errors import UserError
from simscaleai.tensor_types import Tensors

_Module = TypeVar("_Module", bound=nn.Module)

# A module may register more than its file has: buffers that are not saved, layers that are replaced.
_TIMES = 4
_SPARE_TENSORS = 1000
_SPARE_NUMBERS = 2**24
_SLOTS = ("exp_avg", "exp_avg_sq")  # Adam's moments of a gradient


def build_for(
    weights: object,
    build: Callable[[], _Module],
    source: str,
    part: Callable[[_Module], nn.Module] = lambda module: module,
) -> _Module:
    """Return the module that `build` makes, with the weights loaded; see `require_fit`."""
    require_fit(weights, build, source, part)
    # Initial weights are overwritten, and drawing them must not change the numbers of the caller.
    with torch.random.fork_rng(devices=[]):
        module = build()
    load_weights(part(module), weights, source)
    return module


def require_fit(
    weights: object,
    build: Callable[[], _Module],
    source: str,
    part: Callable[[_Module], nn.Module] = lambda module: module,
) -> None:
    """Raise UserError with every difference unless the weights fit the module that `build` would make.

    Args:
      weights: {name: tensor} from a file, not checked yet.
      build: makes the module; it is called under the meta device, and allocates nothing.
      source: what errors call the file.
      part: selects the submodule whose weights they are; the whole module by default.
    """
    tensors = check_tensors(weights, source)
    try:
        with _no_more_than(tensors, source), torch.device("meta"):
            shapes = part(build()).state_dict()
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):
            raise
        return  # a user's model, whose constructor reads values of tensors; loading compares the shapes
    check_fit(shapes, tensors, source)


def load_weights(module: nn.Module, weights: object, source: str) -> None:
    """Copy `weights` into `module`; one UserError with every difference if they do not fit."""
    module.load_state_dict(check_fit(module.state_dict(), weights, source))


def check_tensors(weights: object, source: str) -> Tensors:
    """Return `weights` as {name: tensor of real numbers}; UserError if they are something else."""
    if isinstance(weights, Mapping) and all(
        isinstance(k, str) and isinstance(v, torch.Tensor) and not v.is_complex()
        for k, v in weights.items()
    ):
        return dict(weights)
    raise UserError(f"The weights in {source!r} are not tensors by name; use another checkpoint.")


def check_fit(own: Mapping[str, torch.Tensor], weights: object, source: str) -> Tensors:
    """Return `weights`; UserError with every name and shape in which they are not those of a module."""
    tensors = check_tensors(weights, source)
    wrong = [f"{k} is missing" for k in own if k not in tensors]
    wrong += [f"{k} is not known" for k in tensors if k not in own]
    for key in own.keys() & tensors.keys():
        if own[key].shape != tensors[key].shape:
            shapes = f"{tuple(tensors[key].shape)}, expected {tuple(own[key].shape)}"
            wrong.append(f"{key} has shape {shapes}")
    if wrong:
        raise UserError(
            f"The weights in {source!r} do not fit the model: " + "; ".join(sorted(wrong)) + "."
        )
    return tensors


@contextmanager
def _no_more_than(weights: Mapping[str, torch.Tensor], source: str) -> Iterator[None]:
    """Raise UserError in the block as soon as a module has far more tensors or numbers than `weights`.

    Even on the meta device a layer takes memory as a Python object, and a billion layers take all of it.
    """
    # What may still be registered.
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


def check_slots(state: object, parameters: Sequence[torch.Tensor], source: str) -> None:
    """Raise UserError unless `state` is the state of an Adam optimizer: {index of a parameter: tensors}.

    Its tensors are "step", one number, and "exp_avg" and "exp_avg_sq" of the shape of the parameter.
    """
    # Parameters without a gradient so far have no state, and so indices may be missing.
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
