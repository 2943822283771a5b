"""Decode the videos of a LeRobot folder, frame by frame, by ffmpeg in a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import MissingPackageError
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.lerobot_folder import LeRobotFolder

# a file of another kind, such as a list of other files, is not followed
_INPUT = ["-v", "error", "-nostdin", "-protocol_whitelist", "file", "-f", "mp4", "-i"]
# every frame as a PPM image, whose header says its size
_OUTPUT = ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-"]
_LONGEST_LINE = 32  # bytes of a line of a PPM header


class VideoFrames:
    """The frames of one camera, read forward; going back opens the file again.

    Args:
      folder: the folder.
      feature: name of the camera's feature.
      shape: (H, W, 3) that info.json says.
    """

    def __init__(self, folder: LeRobotFolder, feature: str, shape: Sequence[int]) -> None:
        self._folder, self._feature, self._shape = folder, feature, tuple(shape)
        self._place = -1, -1
        self._next = 0
        self._decoder: subprocess.Popen[bytes] | None = None

    def read(self, chunk: int, file: int, first: int, count: int) -> NDArray[np.uint8]:
        """Return `count` frames from number `first` of a file, (count, H, W, 3).

        Raises:
          ValueError: the frames have another size, or there are fewer.
        """
        # ffmpeg cannot go back in a pipe
        if self._decoder is None or (chunk, file) != self._place or first < self._next:
            self._open(chunk, file)
        assert self._decoder is not None and self._decoder.stdout is not None
        frames = np.empty((count, *self._shape), np.uint8)
        while self._next < first + count:
            frame = self._frame(self._decoder.stdout)
            if self._next >= first:
                frames[self._next - first] = frame
            self._next += 1
        return frames

    def _frame(self, pipe: IO[bytes]) -> NDArray[np.uint8]:
        """Return the next frame, (H, W, 3)."""
        height, width, _ = self._shape
        kind, size, _ = (pipe.readline(_LONGEST_LINE) for _ in range(3))
        if kind != b"P6\n":
            raise ValueError(f"its video ends after {self._next} frames")
        if size.split() != [b"%d" % width, b"%d" % height]:
            raise ValueError(f"its video has frames of {size.decode().strip()} pixels")
        content = pipe.read(height * width * 3)
        return np.frombuffer(content, np.uint8).reshape(self._shape)

    def _open(self, chunk: int, file: int) -> None:
        """Start ffmpeg on a file."""
        self.close()
        if self._shape[2] != 3:
            raise ValueError(f"{self._feature} has {self._shape[2]} channels; expected 3")
        name = layout.VIDEO.format(video_key=self._feature, chunk_index=chunk, file_index=file)
        # absolute, so that no name is taken for an option
        path = self._folder.file(name).absolute()
        command = [str(_ffmpeg()), *_INPUT, str(path), *_OUTPUT]
        self._decoder = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self._place, self._next = (chunk, file), 0

    def close(self) -> None:
        """End ffmpeg."""
        if self._decoder is not None:
            self._decoder.kill()
            self._decoder.communicate()  # closes the pipe and waits
            self._decoder = None


def _ffmpeg() -> Path:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise MissingPackageError(
            "Videos need imageio-ffmpeg; install it with: pip install 'simscaleai[viz]'."
        ) from None
    return Path(imageio_ffmpeg.get_ffmpeg_exe())
