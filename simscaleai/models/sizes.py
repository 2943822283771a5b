"""Checks that a network fits in memory, made while it is built.

with within_memory("The model 'bc' with hidden_dim=1000000000"):
    model = create_model("bc", hidden_dim=10**9)      # UserError before the memory is allocated
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from simscaleai.errors import UserError
from simscaleai.memory import out_of_memory, require_memory

R = TypeVar("R")

# The functions by which layers allocate their parameters and buffers.
_FACTORIES = {
    *(torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn),
    *(torch.arange, torch.linspace, torch.eye, torch.empty_strided),
}
MAX_LAYERS = 1000  # more than any published policy has
_COPIES = 4  # weights, gradients, and AdamW's two moments of each gradient


class _CountBytes(TorchFunctionMode):
    """Adds up the bytes of new tensors, each before it is allocated."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__()
        self._what, self._remedy, self._bytes = what, remedy, 0

    def __torch_function__(
        self,
        func: Callable[..., R],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> R:
        kwargs = kwargs or {}
        if func in _FACTORIES:
            # The same call on the meta device gives the size and allocates nothing.
            given = {k: v for k, v in kwargs.items() if k not in ("device", "pin_memory", "out")}
            made = func(*args, **given, device="meta")
            assert isinstance(made, torch.Tensor)
            self._bytes += made.numel() * made.element_size()
            require_memory(_COPIES * self._bytes, self._what, self._remedy)
        return func(*args, **kwargs)


def check_layers(name: str, arguments: Mapping[str, object]) -> None:
    """Raise UserError if an argument of a model asks for more than `MAX_LAYERS` layers.

    Layers are built one by one, so that `within_memory` would take minutes to refuse a billion of them.

    Args:
      name: name of the model.
      arguments: {name: value} of its constructor; `n_layers`, `num_layers` and names that end so are checked.
    """
    for key, value in arguments.items():
        is_depth = key.endswith(("n_layers", "num_layers"))
        if is_depth and isinstance(value, int) and value > MAX_LAYERS:
            raise UserError(
                f"{key} of the model {name!r} is {value}; at most {MAX_LAYERS} is allowed."
            )


@contextmanager
def within_memory(what: str, remedy: str = "choose smaller numbers") -> Iterator[None]:
    """Raise UserError if the networks built in the block would not fit in memory while they are trained.

    Args:
      what: the network, with the settings that decide its size, as the error names it.
      remedy: what the error advises.
    """
    try:
        with _CountBytes(what, remedy):
            yield
    except UserError:
        raise
    except Exception as error:
        # Allocations that the mode does not see fail in torch itself.
        if not out_of_memory(error):
            raise
        raise UserError(f"{what} needs more memory than there is; {remedy}.") from error
