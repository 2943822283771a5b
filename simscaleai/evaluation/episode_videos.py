"""Videos of single episodes of an evaluation, which are run once more before a camera.

    film_episodes(source, spec, failed, Path("videos"))             # one file for each episode
    film_side_by_side([a, b], spec, results, Path("videos"))        # two policies on the same starts

An episode is a function of its number, and so the film shows what was counted. A frame in the colors of
`OUTCOME_COLORS` appears when an episode is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.rendering import Renderer
from simscaleai.rollout.loop import Recorder, Rollout
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_source import PolicySource
from simscaleai.sim.scene_cameras import view_of
from simscaleai.sim.vector_env import TaskVectorEnv
from simscaleai.storage.video import write_video

Frame = NDArray[np.uint8]
"""(H, W, 3)."""

SIZE = 256  # pixels, height and width
OUTCOME_COLORS = {True: (40, 160, 70), False: (200, 50, 40)}  # success: green, failure: red
_BORDER = 5  # pixels
_REST = 0.5  # s that the end stays in view


class Film(Recorder):
    """The frames of one episode at a time, of an environment with one env."""

    def __init__(self, env: TaskVectorEnv, size: int = SIZE) -> None:
        assert env.num_envs == 1
        self._env, self._camera = env, view_of(env.model, None, (size, size))
        self._renderer = Renderer(env.model, [self._camera], 1, engine=env.config.render_engine)
        self.frames: list[Frame] = []

    def begin(self, rollout: Rollout) -> None:
        self.frames = []
        self._draw()

    def after_step(self, rollout: Rollout) -> None:
        self._draw()

    def close(self) -> None:
        """Release the renderer."""
        self._renderer.close()

    def _draw(self) -> None:
        images = self._renderer.render(self._env.sim.render_state())
        self.frames.append(images[self._camera.name]["rgb"][0])


def film_episodes(
    source: PolicySource, spec: EvalSpec, episodes: Sequence[EpisodeResult], folder: Path
) -> list[Path]:
    """Film the episodes with these numbers; return the files, `episode_<index>_<outcome>.mp4`."""
    paths = []
    for episode, frames, fps in _filmed(source, spec, episodes):
        outcome = "success" if episode.success else episode.stage or "failure"
        paths.append(folder / f"episode_{episode.index}_{outcome}.mp4")
        last = framed(frames[-1], bool(episode.success))
        write_video(paths[-1], [*frames, *[last] * round(_REST * fps)], fps)
    return paths


def film_side_by_side(
    sources: Sequence[PolicySource],
    spec: EvalSpec,
    episodes: Sequence[Sequence[EpisodeResult]],
    folder: Path,
) -> list[Path]:
    """Film several policies in the same episodes, from left to right in the order of `sources`.

    Args:
      sources: m policies.
      spec: which suite.
      episodes: for each episode the results of the m policies.
      folder: of the files, `episode_<index>.mp4`.
    """
    films = [
        _filmed(source, spec, [results[k] for results in episodes])
        for k, source in enumerate(sources)
    ]
    paths = []
    for takes in zip(*films, strict=True):  # one episode of all policies
        rest = round(_REST * takes[0][2])
        length = max(len(frames) for _, frames, _ in takes) + rest
        columns = []
        for episode, frames, _ in takes:
            # the shorter one stands still at its end
            last = framed(frames[-1], bool(episode.success))
            columns.append([*frames, *[last] * (length - len(frames))])
        paths.append(folder / f"episode_{takes[0][0].index}.mp4")
        joined = (np.concatenate(parts, axis=1) for parts in zip(*columns, strict=True))
        write_video(paths[-1], joined, takes[0][2])
    return paths


def framed(image: Frame, success: bool) -> Frame:
    """Return an image with a border in the color of an outcome."""
    bordered = np.empty_like(image)
    bordered[:] = OUTCOME_COLORS[success]
    bordered[_BORDER:-_BORDER, _BORDER:-_BORDER] = image[_BORDER:-_BORDER, _BORDER:-_BORDER]
    return bordered


def _filmed(
    source: PolicySource, spec: EvalSpec, episodes: Sequence[EpisodeResult]
) -> Iterator[tuple[EpisodeResult, list[Frame], float]]:
    """Run episodes once more, one by one; yield each with its frames and the frames per second."""
    if not episodes:
        return
    with PolicyRunner(source, spec, num_envs=1) as runner, closing(Film(runner.env)) as film:
        fps = runner.env.metadata["render_fps"]
        for episode in episodes:
            for again in runner.run([episode.index], [film]):
                yield again, film.frames, fps
