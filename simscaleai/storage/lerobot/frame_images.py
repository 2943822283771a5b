"""Encode and decode the images of a LeRobot dataset that are stored as PNG bytes in its data files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import MissingPackageError

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = ("PNG", "JPEG")  # Pillow knows dozens, and each is a parser of untrusted bytes
_MAX_BYTES = 256 * 2**20  # of one encoded image


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError(
            "Images of LeRobot datasets need Pillow; install it with: pip install 'simscaleai[viz]'."
        ) from None
    return Image


def encode_images(frames: NDArray[np.uint8]) -> pa.Array:
    """Return images (T, H, W, 3) as the column that `datasets` reads as images: {bytes, path}."""
    import pyarrow as pa

    pillow = _pillow()
    encoded = []
    for frame in frames:
        buffer = io.BytesIO()
        pillow.fromarray(frame).save(buffer, format="PNG")
        encoded.append(buffer.getvalue())
    names = [f"frame-{i:06d}.png" for i in range(len(frames))]
    return pa.StructArray.from_arrays(
        [pa.array(encoded, pa.binary()), pa.array(names, pa.string())], names=["bytes", "path"]
    )


def decode_images(column: pa.ChunkedArray, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return a column of encoded images as (T, H, W, C).

    Paths in the column are not followed: an image is in the file itself or it is refused.

    Raises:
      ValueError: an image is missing, damaged, or of another size than `shape`.
    """
    pillow = _pillow()
    height, width, channels = shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    frames = np.empty((len(column), height, width, channels), np.uint8)
    for i, cell in enumerate(column):
        content = cell["bytes"].as_buffer() if cell.is_valid and cell["bytes"].is_valid else b""
        if not 0 < len(content) <= _MAX_BYTES:
            raise ValueError("an image that is not in the file itself")
        with pillow.open(io.BytesIO(content), formats=_FORMATS) as image:
            # the header is compared before a pixel is decoded
            if image.size != (width, height):
                raise ValueError(f"an image of {image.size[1]} x {image.size[0]} pixels")
            frames[i] = np.asarray(image.convert(mode)).reshape(height, width, channels)
    return frames
