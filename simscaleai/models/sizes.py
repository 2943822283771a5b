"""Building a network without taking more memory than there is.

with within_memory("The model 'bc' with hidden_dim=1000000000"):
    model = create_model("bc", hidden_dim=10**9)      # UserError before the memory is taken
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from simscaleai.errors import UserError
from simscaleai.memory import out_of_memory, require_memory

_MAKERS = {
    *(torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn),
    *(torch.arange, torch.linspace, torch.eye, torch.empty_strided),
}
MAX_LAYERS = 1000  # more than any published policy has
_COPIES = 4  # weights, gradients, and two numbers for each that the optimizer remembers


class _Count(TorchFunctionMode):
    """Adds up the tensors that are made, before they are."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__()
        self._what, self._remedy, self._bytes = what, remedy, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS:
            given = {k: v for k, v in kwargs.items() if k not in ("device", "pin_memory", "out")}
            made = func(*args, **given, device="meta")
            self._bytes += made.numel() * made.element_size()
            require_memory(_COPIES * self._bytes, self._what, self._remedy)
        return func(*args, **kwargs)


def check_layers(name: str, arguments: Mapping[str, object]) -> None:
    """Raise UserError if an argument of a model asks for more than `MAX_LAYERS` layers.

    Layers are built one by one, so that `within_memory` would take minutes to refuse a billion of them.

    Args:
      name: of the model.
      arguments: {name: value} of its constructor; those named `n_layers`, `num_layers` and alike count.
    """
    for key, value in arguments.items():
        is_depth = key.endswith(("n_layers", "num_layers"))
        if is_depth and isinstance(value, int) and value > MAX_LAYERS:
            raise UserError(
                f"{key} of the model {name!r} is {value}; at most {MAX_LAYERS} is allowed."
            )


@contextmanager
def within_memory(what: str, remedy: str = "choose smaller numbers") -> Iterator[None]:
    """Raise UserError if networks built in the block, and what their training adds, exceed the free memory.

    Args:
      what: is built, with the settings that decide its size.
      remedy: what to do.
    """
    try:
        with _Count(what, remedy):
            yield
    except UserError:
        raise
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"{what} needs more memory than there is; {remedy}.") from error
