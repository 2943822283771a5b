"""Images that are drawn while training, from the recorded states, instead of being read.

Training does not know how to draw: a `Draw` function is passed down to it, as `eval_fn` is, and gives a
`Drawer` for the dataset at hand (`datagen.drawn_images.draw_images`). The images are those that `datagen`
would have recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from simscaleai.array_types import Array, ArrayDict, IntArray
from simscaleai.contract import EnvContract
from simscaleai.storage.episodes import EpisodeSource

_AT_ONCE = 256  # images that are drawn together when all are wanted


class Drawer(Protocol):
    """Draws images of the recorded steps of one dataset.

    Attributes:
      shapes, dtypes: {observation: (H, W, C)} and {observation: dtype} of what it draws.
      contract: of the dataset's environment with these cameras.
    """

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    contract: EnvContract

    def draw(self, episodes: IntArray, steps: IntArray) -> ArrayDict:
        """Return {observation: (B, H, W, C)} of steps (B,), each of an episode (B,)."""


Draw = Callable[[EpisodeSource, Sequence[str], int], Drawer]
"""A function of (dataset, cameras, pixels per side; 0 for those that the dataset names) to a drawer."""


class DrawnSteps:
    """The images of all cameras at the steps of some episodes; the newest ones are kept for the next
    camera."""

    def __init__(self, drawer: Drawer, episodes: Sequence[int], lengths: Sequence[int]) -> None:
        self.drawer = drawer
        self._episodes = np.asarray(episodes, np.int64)
        self.ends = np.cumsum(lengths, dtype=np.int64)  # (episodes,)
        self._newest: tuple[bytes, ArrayDict] = b"", {}

    def images(self, steps: IntArray) -> ArrayDict:
        """Return {observation: (B, H, W, C)} of steps (B,), numbered over the episodes."""
        # each camera asks for the same steps in turn, and one call of the drawer draws all cameras
        name = steps.tobytes()
        if self._newest[0] != name:
            which = np.searchsorted(self.ends, steps, "right")  # (B,) position in the episodes
            starts = np.concatenate([[0], self.ends])[
                which
            ]  # (B,) first step of each one's episode
            images = self.drawer.draw(self._episodes[which], steps - starts)
            self._newest = name, images
        return self._newest[1]


class DrawnFrames:
    """Reads one camera of `DrawnSteps`; a `FrameReader`."""

    def __init__(self, source: DrawnSteps, key: str) -> None:
        self._source, self.key = source, key
        self.shape = source.drawer.shapes[key]
        self._dtype = np.dtype(source.drawer.dtypes[key])

    @property
    def nbytes(self) -> int:
        """Bytes of all images in memory."""
        steps = int(self._source.ends[-1]) if len(self._source.ends) else 0
        return steps * math.prod(self.shape) * self._dtype.itemsize

    def read(self, steps: IntArray) -> Array:
        """Draw the images of some steps, (B, H, W, C)."""
        return self._source.images(steps)[self.key]

    def read_all(self, threads: int = 1) -> Array:
        """Draw the images of all steps."""
        count = int(self._source.ends[-1])
        out = np.empty((count, *self.shape), self._dtype)
        for start in range(0, count, _AT_ONCE):
            part = np.arange(start, min(start + _AT_ONCE, count))
            out[part] = self.read(part)
        return out

    def close(self) -> None:
        """Do nothing: no file stays open."""
