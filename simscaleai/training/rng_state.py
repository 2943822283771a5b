"""Global RNG states as values that a checkpoint can hold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch

from simscaleai.errors import UserError
from simscaleai.tensor_types import StateDict


def capture(device: torch.device) -> StateDict:
    """Return the RNG states of torch (on the CPU and on `device`), NumPy and Python in this process."""
    # Lists and tensors in place of tuples and arrays: `weights_only=True` loads these.
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (users' transforms may draw from it)
    return {
        "torch": torch.get_rng_state(),
        "device": {device.type: _backend(device).get_rng_state()} if device.type != "cpu" else {},
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
    }


def restore(state: StateDict, device: torch.device) -> None:
    """Set the RNG states that `capture` returned; the state of another kind of device is ignored.

    Raises:
      UserError: `state` does not hold RNG states.
    """
    try:
        torch.set_rng_state(state["torch"].clone())
        if device.type in state["device"]:
            _backend(device).set_rng_state(state["device"][device.type].clone())
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    except Exception as error:  # as in `guards.guarded`
        raise UserError("The random states of the checkpoint cannot be restored.") from error


@contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """Restore the RNG states when the block is left, whatever was drawn inside."""
    before = capture(device)
    try:
        yield
    finally:
        restore(before, device)


def _backend(device: torch.device) -> ModuleType:
    """Return `torch.cuda` or `torch.mps`, whose functions refer to the current GPU of several."""
    backend: ModuleType = getattr(torch, device.type)
    return backend
