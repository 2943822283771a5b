"""Episodes in front of a camera, side by side: what the images and videos of a policy are made from."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """n episodes at one time; those that are over stand as they ended.

    Attributes:
      images: (n, H, W, 3).
      steps: (n,) control steps taken.
      over: (n,) bool.
      success: (n,) bool, at any step until now.
      instructions: n instructions, of tasks that are about following them; else none.
    """

    images: NDArray[np.uint8]
    steps: NDArray[np.int64]
    over: NDArray[np.bool_]
    success: NDArray[np.bool_]
    instructions: tuple[str, ...] = ()

    def first(self, n: int) -> RolloutFrame:
        """The first n episodes alone."""
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
    """Let a policy drive n episodes at once, those that `simscale eval --seed` begins with.

    Args:
      source: see `find_policy_source`.
      n_episodes: how many.
      camera: one of the scene's, with the field of view that the scene gives it; None is `observer_cam`, or
        the first one of a scene without it.
      size: (height, width) of a picture.
      seed: which episodes.
      n_steps: control steps after which to stop; None until all episodes are over.
      shown: after how many steps there is to be a picture; None draws the start and every step.
      samples: rays per pixel and side; 2 smooths edges at four times the cost.

    Yields:
      What is shown, in order of time.

    Raises:
      UserError: the environment, the policy and the camera do not fit together, or nothing can render here.
    """
    with closing(_env(source, n_episodes)) as env:
        lens = view_of(env.model, camera, size)
        options: Any = {"engine": env.config.render_engine, "samples": samples}
        with closing(Renderer(env.model, [lens], n_episodes, **options)) as renderer:
            drawn = np.full(n_episodes, -1)  # after how many steps
            shown_instructions: tuple[str, ...] = ()
            episodes = _run(env, source.policy(env), seed, n_steps)
            for step, (steps, over, success, instructions) in enumerate(episodes):
                if env.task.held_out:
                    shown_instructions = instructions
                if shown is None or step in shown:
                    rows = np.flatnonzero(steps != drawn)  # the others stand still
                    rgb = renderer.render(env.sim.render_state(), env_ids=rows)[lens.name]["rgb"]
                    drawn[:] = steps
                    yield RolloutFrame(
                        rgb, steps.copy(), over.copy(), success.copy(), shown_instructions
                    )


def lengths(
    source: PolicySource, n_episodes: int = 1, *, seed: int = 0, n_steps: int | None = None
) -> NDArray[np.int64]:
    """How many steps the episodes of `record` have, (n,), without a picture of them."""
    with closing(_env(source, n_episodes)) as env:
        *_, (steps, *_) = _run(env, source.policy(env), seed, n_steps)
    return steps


def _env(source: PolicySource, n_episodes: int) -> TaskVectorEnv:
    if n_episodes < 1:
        raise UserError(f"n_episodes is {n_episodes}; it must be at least 1.")
    return make_vec_env(
        source.env_name, n_episodes, autoreset_mode="disabled", config=source.config
    )


Progress = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], tuple[str, ...]]
"""Steps taken, whether the episode is over, and whether it has succeeded, (n,) each; n instructions."""


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
        success |= rollout.info["success"] & ~over
        steps[~over] = rollout.length[~over]
        over[rollout.ended] = True
        yield steps, over, success, tuple(rollout.instructions or ())
