"""Record videos of single environments, frame by frame while an episode runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.observations import as_array
from simscaleai.rollout.gym_types import GymEnv
from simscaleai.rollout.loop import Recorder, Rollout
from simscaleai.storage.atomic import require_writable

DEFAULT_FPS = 20  # for environments without `render_fps`


class FrameRecorder(Recorder):
    """Calls `env.render()` at every reset and step, and keeps the frames of the episode.

    Args:
      env: a single environment.
      keep: whether to keep frames; False only calls `render`, for an environment with a window.

    Attributes:
      frames: of the present episode, (H, W, 3) uint8 each.

    Raises:
      UserError: frames shall be kept, and the environment renders none.
    """

    def __init__(self, env: GymEnv, keep: bool = True) -> None:
        # before the first episode; wrappers may hide the attribute
        if keep and getattr(env, "render_mode", "unknown") is None:
            raise _no_frames()
        self._env, self._keep = env, keep
        self.frames: list[NDArray[np.uint8]] = []

    def begin(self, rollout: Rollout) -> None:
        self.frames = []
        self._render()

    def after_step(self, rollout: Rollout) -> None:
        self._render()

    def write(self, path: Path) -> None:
        """Write the frames of the present episode as a video."""
        from simscaleai.storage.video import write_video

        fps = (getattr(self._env, "metadata", None) or {}).get("render_fps") or DEFAULT_FPS
        write_video(path, self.frames, fps)

    def _render(self) -> None:
        frame = self._env.render()
        if self._keep:
            self.frames.append(_frame(frame))


def check_video_dir(folder: Path) -> None:
    """Raise UserError unless videos can be written to a folder."""
    require_writable(folder / "episode_0.mp4", "choose another video_dir")


def _frame(frame: object) -> NDArray[np.uint8]:
    """Return the result of `render` as a frame (H, W, 3) uint8."""
    # render_mode "rgb_array_list" collects frames: the last one is new
    if isinstance(frame, list) and frame:
        frame = frame[-1]
    if frame is None:
        raise _no_frames()
    pixels = as_array(frame)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise UserError(
            f"save_videos needs frames (height, width, 3) of bytes, and render gave {pixels.dtype}"
            f" {pixels.shape}; make the environment with render_mode='rgb_array'."
        )
    return pixels


def _no_frames() -> UserError:
    return UserError("save_videos needs frames; make the environment with render_mode='rgb_array'.")
