"""Render episodes of a policy in parallel, for figures and videos."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray, IntArray
from simscaleai.errors import UserError
from simscaleai.evaluation.suite import episode_seed
from simscaleai.policy import Policy
from simscaleai.rendering import Renderer
from simscaleai.rollout.loop import run_episodes
from simscaleai.rollout.policy_source import PolicySource
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.scene_cameras import view_of
from simscaleai.sim.vector_env import TaskVectorEnv


class RolloutFrame(NamedTuple):
    """n episodes at one time; ended episodes keep their last state.

    Attributes:
      images: (n, H, W, 3).
      steps: (n,) control steps so far.
      over: (n,) whether the episode has ended.
      success: (n,) whether it has succeeded at any step so far.
      instructions: n instructions, for tasks about following instructions; otherwise empty.
    """

    images: NDArray[np.uint8]
    steps: IntArray
    over: BoolArray
    success: BoolArray
    instructions: tuple[str, ...] = ()

    def first(self, n: int) -> RolloutFrame:
        """Return the snapshot of the first n episodes."""
        return RolloutFrame(
            self.images[:n], self.steps[:n], self.over[:n], self.success[:n], self.instructions[:n]
        )


def record(
    source: PolicySource,
    n_episodes: int = 1,
    *,
    camera: str | None = None,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
    n_steps: int | None = None,
    shown: Container[int] | None = None,
    samples: int = 1,
) -> Iterator[RolloutFrame]:
    """Run a policy in n episodes at once, the first ones of `simscale eval --seed`.

    Args:
      source: result of `find_policy_source`.
      n_episodes: number of episodes.
      camera: name of a camera, which has the scene's field of view; None for `observer_cam`, or the first
        camera of a scene without it.
      size: (height, width) of an image.
      seed: seed of the episodes.
      n_steps: control steps after which to stop; None to stop when all episodes have ended.
      shown: numbers of steps after which to render; None renders the start and every step.
      samples: rays per pixel along each side; 2 smooths edges at four times the cost.

    Yields:
      Snapshots in order of time.

    Raises:
      UserError: environment, policy and camera are incompatible, or no render engine works here.
    """
    with closing(_env(source, n_episodes)) as env:
        view = view_of(env.model, camera, size)
        engine = env.config.render_engine
        with closing(
            Renderer(env.model, [view], n_episodes, engine=engine, samples=samples)
        ) as renderer:
            drawn = np.full(n_episodes, -1)  # (n,), number of steps in each env's newest image
            shown_instructions: tuple[str, ...] = ()
            episodes = _run(env, source.policy(env), seed, n_steps)
            for step, (steps, over, success, instructions) in enumerate(episodes):
                # the task has several phrasings: a viewer wants to know which
                if env.task.held_out:
                    shown_instructions = instructions
                if shown is None or step in shown:
                    env_ids = np.flatnonzero(steps != drawn)  # ended episodes keep their image
                    images = renderer.render(env.sim.render_state(), env_ids=env_ids)
                    rgb = images[view.name]["rgb"]  # (n, H, W, 3)
                    drawn[:] = steps
                    yield RolloutFrame(
                        rgb, steps.copy(), over.copy(), success.copy(), shown_instructions
                    )


def episode_lengths(
    source: PolicySource, n_episodes: int = 1, *, seed: int = 0, n_steps: int | None = None
) -> IntArray:
    """Return the numbers of steps, (n,), of the episodes of `record`, without rendering them."""
    # the generator reuses its arrays: the last item has the final numbers
    with closing(_env(source, n_episodes)) as env:
        *_, (steps, *_) = _run(env, source.policy(env), seed, n_steps)
    return steps


def _env(source: PolicySource, n_episodes: int) -> TaskVectorEnv:
    if n_episodes < 1:
        raise UserError(f"n_episodes is {n_episodes}; it must be at least 1.")
    return make_vec_env(
        source.env_name, n_episodes, autoreset_mode="disabled", config=source.config
    )


Progress = tuple[IntArray, BoolArray, BoolArray, tuple[str, ...]]
"""Number of steps, whether the episode has ended, and whether it has succeeded, (n,) each; n instructions."""


def _run(env: TaskVectorEnv, policy: Policy, seed: int, n_steps: int | None) -> Iterator[Progress]:
    """Run an episode in each env; yield at the start and after each step, always the same arrays."""
    if n_steps is not None and n_steps < 1:
        raise UserError(f"n_steps is {n_steps}; it must be at least 1.")
    n = env.num_envs
    seeds = [episode_seed(seed, i) for i in range(n)]
    steps, over = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    success = np.zeros(n, dtype=bool)
    for rollout in islice(
        run_episodes(env, policy, seeds), None if n_steps is None else 1 + n_steps
    ):
        success |= (
            rollout.info["success"] & ~over
        )  # physics goes on in ended envs, and must not count
        steps[~over] = rollout.length[~over]
        over[rollout.ended] = True
        yield steps, over, success, tuple(rollout.instructions or ())
