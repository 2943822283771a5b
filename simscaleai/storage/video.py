"""Write frames to an mp4 or gif file."""

from __future__ import annotations

import contextlib
import itertools
import math
import struct
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.storage.atomic import atomic_path

_GIF_FPS = 50


def write_video(
    path: str | Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    keyframe_every: int | None = None,
) -> int:
    """Write frames (H, W, 3) of one size as H.264, one by one, so that they need not fit in memory.

    Sides of odd length are scaled to even ones, which players require.

    Args:
      path: of the file.
      frames: in order.
      fps: frames per second.
      keyframe_every: frames between two keyframes, which can be read alone; by default the encoder decides.

    Returns:
      Number of frames.

    Raises:
      UserError: the extra `viz` is not installed, or ffmpeg could not write the file.
    """
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UserError(
            "Writing videos needs imageio-ffmpeg; install it with: pip install 'simscaleai[viz]'."
        ) from None
    count = 0
    keyframes = [] if keyframe_every is None else ["-g", str(keyframe_every)]
    with atomic_path(path) as temporary, contextlib.ExitStack() as stack:
        # imageio_ffmpeg's writer is a generator that takes frames by `send`
        writer: Generator[None, NDArray[np.uint8] | None, None] | None = None
        for frame in frames:
            if writer is None:
                writer = imageio_ffmpeg.write_frames(
                    str(temporary),
                    (frame.shape[1], frame.shape[0]),
                    fps=fps,
                    macro_block_size=2,
                    ffmpeg_log_level="fatal",
                    output_params=["-f", "mp4", "-movflags", "+faststart", *keyframes],
                )
                stack.callback(writer.close)
                writer.send(None)  # starts it
            writer.send(np.ascontiguousarray(frame))
            count += 1
        assert count, "a video has at least one frame"
        stack.close()  # ffmpeg writes the index and ends
        if not _is_whole(temporary):
            raise OSError(f"ffmpeg has not finished {temporary}")  # it gives no reason
    return count


def write_gif(path: str | Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> int:
    """Write frames (H, W, 3) of one size as an endless GIF, which is shown where videos are not.

    Its times are multiples of 10 ms, and viewers slow down what is shorter than 20 ms: of more than 50 frames
    per second, some are left out.

    Returns:
      Number of frames in the file.

    Raises:
      UserError: the extra `viz` is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UserError(
            "Writing a GIF needs Pillow; install it with: pip install 'simscaleai[viz]'."
        ) from None
    every = math.ceil(fps / _GIF_FPS)
    taken = itertools.islice(frames, 0, None, every)
    # one palette for all frames: colors of their own would flicker
    images: list[Image.Image] = []
    for frame in taken:
        image = Image.fromarray(frame)
        images.append(image.quantize(palette=images[0]) if images else image.quantize())
    assert images, "a video has at least one frame"
    duration = 10 * max(2, round(100 * every / fps))  # ms
    with atomic_path(path) as temporary:
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=duration,
            loop=0,
        )
    return len(images)


def _is_whole(path: Path) -> bool:
    """Return whether an mp4 file holds all of its boxes, the index (moov) among them."""
    # a box: its size (4 bytes, big endian), its name (4 bytes), its content; see ISO/IEC 14496-12
    names, end = [], path.stat().st_size if path.exists() else 0
    with path.open("rb") if end else contextlib.nullcontext() as file:
        at = 0
        while file is not None and at + 8 <= end:
            file.seek(at)
            size, name = struct.unpack(">I4s", file.read(8))
            if size == 1:  # a 64-bit size follows, for boxes of 4 GB and more
                size = struct.unpack(">Q", file.read(8))[0]
            names.append(name)
            at += max(size, 8)
    return b"moov" in names and at == end
