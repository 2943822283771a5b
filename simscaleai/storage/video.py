"""Pictures to an mp4 file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.storage.atomic import atomic_path


def write_video(path: str | Path, frames: Sequence[NDArray[np.uint8]], fps: int) -> None:
    """Write frames (H, W, 3) as H.264; UserError if the extra `viz` is not installed."""
    try:
        import imageio.v3 as iio
        import imageio_ffmpeg  # noqa: F401 - the plugin that imageio needs
    except ImportError:
        raise UserError(
            "Writing videos needs imageio; install it with: pip install 'simscaleai[viz]'."
        ) from None
    with atomic_path(path) as temporary:
        iio.imwrite(temporary, np.stack(list(frames)), extension=".mp4", plugin="FFMPEG", fps=fps)
