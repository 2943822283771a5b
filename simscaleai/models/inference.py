"""Functions to run any model: inference mode, devices and image conversion."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from simscaleai.errors import UserError

_thread = threading.local()  # "layers" that are in `inference` in this thread


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Disable gradients and put every layer into evaluation mode; restore each layer's mode afterwards.

    Dropout and the like draw nothing, so that the global RNG state does not change.
    """
    within: set[nn.Module] = getattr(_thread, "layers", set())
    if module in within:  # the model of a policy that is acting
        with torch.no_grad():
            yield
        return
    layers = _layers(module)
    # Layer by layer: a fine-tuned model may have frozen layers in evaluation mode inside of a training one.
    training = [layer for layer in layers if layer.training]
    # `module.eval()` would set all layers again at every action of a robot, for 0.1 ms.
    for layer in training:
        layer.training = False
    _thread.layers = within.union(layers)
    try:
        with torch.no_grad():
            yield
    finally:
        _thread.layers = within
        for layer in training:
            layer.training = True


def _layers(module: nn.Module) -> list[nn.Module]:
    """Return a module and all below it, a shared one as often as it is used.

    `module.modules()` takes 1.5 times as long, as its generators are nested as deep as the layers are.
    """
    found = [module]
    for layer in found:  # which grows meanwhile
        found += [m for m in layer._modules.values() if m is not None]
    return found


def resolve_device(name: str) -> str:
    """Return the device for a name: "auto" is the first available one of cuda, mps and cpu.

    Raises:
      UserError: the name is no device, or its hardware is missing.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    present = [kind for kind, is_available in available.items() if is_available]  # fastest first
    if name == "auto":
        return present[0]
    try:
        kind = torch.device(name).type
    except RuntimeError:  # no device of torch; the error below names it
        kind = name
    if kind not in present:
        raise UserError(
            f"The device {name!r} is not available; here there is {', '.join(present)}: use one of"
            " these, or auto."
        )
    return name


def as_image(frames: torch.Tensor) -> torch.Tensor:
    """Return images (..., H, W, C) uint8 as (..., C, H, W) float32 in [0, 1]; other tensors as they are."""
    if frames.dtype != torch.uint8:
        return frames
    return frames.movedim(-1, -3).float().div_(255)
