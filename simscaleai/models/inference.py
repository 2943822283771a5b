"""What running any model needs: a device, inputs, weights, and a way to leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from simscaleai.errors import UserError


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """No gradients and every layer in evaluation mode inside; each layer's own mode restored after.

    Nothing random is drawn by dropout and the like, so the global RNG state stays as it is.
    """
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer in training:
            layer.training = True


def resolve_device(name: str) -> str:
    """The device a name stands for: "auto" is cuda, else mps, else cpu, whichever is there.

    Raises:
      UserError: the name is no device, or its hardware is missing.
    """
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    present = [kind for kind, there in here.items() if there]
    if name == "auto":
        return present[0]
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = name
    if kind not in present:
        raise UserError(
            f"The device {name!r} is not available; here there is {', '.join(present)}: use one of"
            " these, or auto."
        )
    return name


def as_image(frames: torch.Tensor) -> torch.Tensor:
    """Images (..., H, W, C) uint8 -> (..., C, H, W) float32 in [0, 1]; anything else as it is."""
    if frames.dtype != torch.uint8:
        return frames
    return frames.movedim(-1, -3).float().div_(255)
