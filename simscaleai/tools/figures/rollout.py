"""Render episodes of a policy in parallel, for figures and videos."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray, IntArray
from simscaleai.errors import UserError, unknown_name
from simscaleai.evaluation.following import fix_instruction
from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.evaluation.suite import episode_seed
from simscaleai.infos import read_success
from simscaleai.policy import Policy
from simscaleai.rendering import Renderer
from simscaleai.rollout.loop import run_episodes
from simscaleai.rollout.policy_source import PolicySource
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.scene_cameras import view_of
from simscaleai.sim.vector_env import TaskVectorEnv
from simscaleai.tools.figures.clear_view import clear_view

OUTCOMES = ("failures", "successes")
BATCH = 50  # episodes that `find_episodes` runs at once
SEARCHED = 1000  # episodes that it runs at most
LOOKED = 15  # steps in which `record` looks for a camera that shows everything


class RolloutFrame(NamedTuple):
    """n episodes at one time; ended episodes keep their last state.

    Attributes:
      images: (n, H, W, 3).
      steps: (n,) control steps so far.
      over: (n,) whether the episode has ended.
      success: (n,) whether it has succeeded at any step so far.
      instructions: n instructions; empty for a task without any.
      numbers: n numbers of the episodes in `simscale eval --seed`; empty for 0 to n - 1.
    """

    images: NDArray[np.uint8]
    steps: IntArray
    over: BoolArray
    success: BoolArray
    instructions: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()

    def first(self, n: int) -> RolloutFrame:
        """Return the snapshot of the first n episodes."""
        return RolloutFrame(
            self.images[:n],
            self.steps[:n],
            self.over[:n],
            self.success[:n],
            self.instructions[:n],
            self.numbers[:n],
        )

    def number(self, i: int) -> int:
        """Return the number of the episode at index i."""
        return self.numbers[i] if self.numbers else i


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
    episodes: Sequence[int] | None = None,
    instruction: str | None = None,
) -> Iterator[RolloutFrame]:
    """Run a policy in n episodes at once, by default the first ones of `simscale eval --seed`.

    Args:
      source: result of `find_policy_source`.
      n_episodes: number of episodes.
      camera: a camera as of `parse_view`; None for one that shows hand, object and goal, see `clear_view`.
      size: (height, width) of an image, unless `camera` says one.
      seed: seed of the episodes.
      n_steps: control steps after which to stop; None to stop when all episodes have ended.
      shown: numbers of steps after which to render; None renders the start and every step.
      samples: rays per pixel along each side; 2 smooths edges at four times the cost.
      episodes: numbers of the episodes of `simscale eval --seed`, in place of `n_episodes`.
      instruction: one sentence for every episode; None for the task's own.

    Yields:
      Snapshots in order of time.

    Raises:
      UserError: environment, policy and camera are incompatible, or no render engine works here.
    """
    numbers = tuple(range(n_episodes)) if episodes is None else tuple(episodes)
    with closing(_env(source, len(numbers), instruction)) as env, ExitStack() as stack:
        policy = source.policy(env)
        if camera is None:  # look at the beginning of the episodes, and then start them anew
            beginning = _run(env, policy, seed, numbers, n_steps)
            view = clear_view(env, islice(beginning, 0, LOOKED, LOOKED // 3), size)
        else:
            view = view_of(env.model, camera, size)
        engine = env.config.render_engine
        renderer = stack.enter_context(
            closing(Renderer(env.model, [view], len(numbers), engine=engine, samples=samples))
        )
        drawn = np.full(len(numbers), -1)  # (n,), number of steps in each env's newest image
        running = _run(env, policy, seed, numbers, n_steps)
        for step, (steps, over, success, instructions) in enumerate(running):
            if shown is not None and step not in shown:
                continue
            env_ids = np.flatnonzero(steps != drawn)  # ended episodes keep their image
            images = renderer.render(env.sim.render_state(), env_ids=env_ids)
            rgb = images[view.name]["rgb"]  # (n, H, W, 3)
            drawn[:] = steps
            yield RolloutFrame(
                rgb, steps.copy(), over.copy(), success.copy(), instructions, numbers
            )


def episode_lengths(
    source: PolicySource,
    n_episodes: int = 1,
    *,
    seed: int = 0,
    n_steps: int | None = None,
    episodes: Sequence[int] | None = None,
    instruction: str | None = None,
) -> IntArray:
    """Return the numbers of steps, (n,), of the episodes of `record`, without rendering them."""
    numbers = tuple(range(n_episodes)) if episodes is None else tuple(episodes)
    # the generator reuses its arrays: the last item has the final numbers
    with closing(_env(source, len(numbers), instruction)) as env:
        *_, (steps, *_) = _run(env, source.policy(env), seed, numbers, n_steps)
    return steps


def find_episodes(
    source: PolicySource,
    only: str,
    count: int,
    seed: int = 0,
    instruction: str | None = None,
) -> list[int]:
    """Return the numbers of the first `count` episodes of a suite that ended in one way, perhaps fewer.

    Args:
      source: result of `find_policy_source`.
      only: "failures" or "successes".
      count: how many are wanted.
      seed: the suite, as in `simscale eval --seed`.
      instruction: one sentence for every episode; None for the task's own.

    Raises:
      UserError: another word, or the first `SEARCHED` episodes have none.
    """
    if only not in OUTCOMES:
        raise unknown_name("outcome", only, OUTCOMES)
    found: list[int] = []
    with PolicyRunner(source, EvalSpec(seed=seed, instruction=instruction), BATCH) as runner:
        for first in range(0, SEARCHED, BATCH):
            # sorted: the numbers shall not depend on which episode ended first
            results = sorted(runner.run(range(first, first + BATCH)), key=lambda e: e.index)
            found += [e.index for e in results if bool(e.success) == (only == "successes")]
            if len(found) >= count:
                break
    if not found:
        raise UserError(
            f"The first {SEARCHED} episodes of seed {seed} have no {only}; try another --seed, or leave out"
            " --only."
        )
    return found[:count]


def _env(source: PolicySource, n_episodes: int, instruction: str | None) -> TaskVectorEnv:
    if n_episodes < 1:
        raise UserError(f"n_episodes is {n_episodes}; it must be at least 1.")
    env = make_vec_env(source.env_name, n_episodes, autoreset_mode="disabled", config=source.config)
    if instruction is not None:
        fix_instruction(env, instruction)
    return env


Progress = tuple[IntArray, BoolArray, BoolArray, tuple[str, ...]]
"""Number of steps, whether the episode has ended, and whether it has succeeded, (n,) each; n instructions."""


def _run(
    env: TaskVectorEnv, policy: Policy, seed: int, numbers: Sequence[int], n_steps: int | None
) -> Iterator[Progress]:
    """Run an episode in each env; yield at the start and after each step, always the same arrays."""
    if n_steps is not None and n_steps < 1:
        raise UserError(f"n_steps is {n_steps}; it must be at least 1.")
    n = env.num_envs
    seeds = [episode_seed(seed, i) for i in numbers]
    steps, over = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    success = np.zeros(n, dtype=bool)
    for rollout in islice(
        run_episodes(env, policy, seeds), None if n_steps is None else 1 + n_steps
    ):
        # physics goes on in ended envs, and must not count
        success |= read_success(rollout.info, n)[0] & ~over
        steps[~over] = rollout.length[~over]
        over[rollout.ended] = True
        yield steps, over, success, tuple(rollout.instructions or ())
