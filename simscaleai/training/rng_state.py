"""The global RNG states, as values that a checkpoint can hold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from simscaleai.errors import UserError


def capture(device: torch.device) -> dict[str, Any]:
    """States of torch (on the CPU and on `device`), NumPy and Python in this process."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (users' transforms may draw from it)
    return {
        "torch": torch.get_rng_state(),
        "device": {device.type: _of(device).get_rng_state()} if device.type != "cpu" else {},
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
    }


def restore(state: dict[str, Any], device: torch.device) -> None:
    """Inverse of `capture`; the state of another kind of device is left out.

    Raises:
      UserError: these are no RNG states.
    """
    try:
        torch.set_rng_state(state["torch"].clone())
        if device.type in state["device"]:
            _of(device).set_rng_state(state["device"][device.type].clone())
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    except Exception as error:  # as in `guards.guarded`
        raise UserError("The random states of the checkpoint cannot be restored.") from error


@contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, the states are afterwards as they were before."""
    before = capture(device)
    try:
        yield
    finally:
        restore(before, device)


def _of(device: torch.device) -> Any:
    """`torch.cuda` or `torch.mps`; of several GPUs, its functions mean the current one."""
    return getattr(torch, device.type)
