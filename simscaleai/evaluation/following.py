"""Following an instruction, measured apart from success: which object does a policy go for?

    for result in run_every_instruction(env, policy, seeds):   # each scene once for every request of the task
        ...
    measure_following(results)["approached_right"]["rate"]

A policy that takes any object at random still succeeds now and then, and one that follows may fail for
another reason. So what counts here is the object that the hand comes near to first: the right one, a wrong
one, or none. A scene is passed strictly if the right object is approached for every request, which a policy
that ignores its instruction never manages. LIBERO-PRO (arXiv 2510.03827) and LIBERO-CF (arXiv 2602.17659)
show how far success and following lie apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypedDict

from simscaleai.errors import UserError
from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.evaluation.suite import run_suite
from simscaleai.rollout.env_checks import name_of, task_of
from simscaleai.rollout.gym_types import GymEnv, Predictor
from simscaleai.rollout.outcomes import APPROACHES, RIGHT, EpisodeResult

LABELS = {
    "approached_right": "right object approached first",
    "approached_wrong": "a wrong object approached first",
    "approached_none": "no object approached",
    "strict": "scenes with the right object approached for every instruction",
    "strict_success": "scenes with a success for every instruction",
}
"""What tables call the fractions of `measure_following`."""


class Fraction(TypedDict):
    """How many of n, with the Wilson interval of 95 % of the rate."""

    count: int
    n: int
    rate: float  # count / n
    ci: tuple[float, float]


def measure_following(episodes: Sequence[EpisodeResult]) -> dict[str, Fraction]:
    """Return fractions of episodes by the object approached first, and of scenes that are passed strictly.

    Args:
      episodes: finished ones; those of an environment that does not report what was approached count for
        nothing.

    Returns:
      "approached_right", "approached_wrong" and "approached_none". If some scene (seed) was run for several
      instructions also "strict", the scenes with the right object approached every time, and
      "strict_success", those with a success every time. {} if no episode reports what was approached.
    """
    reported = [episode for episode in episodes if episode.approached is not None]
    if not reported:
        return {}
    fractions = {
        f"approached_{name}": fraction([episode.approached == name for episode in reported])
        for name in APPROACHES
    }
    scenes: defaultdict[int, list[EpisodeResult]] = defaultdict(list)  # by seed
    for episode in reported:
        scenes[episode.seed].append(episode)
    # scenes that ran once each say nothing about other instructions
    if any(len(scene) > 1 for scene in scenes.values()):
        fractions["strict"] = fraction(
            [all(e.approached == RIGHT for e in scene) for scene in scenes.values()]
        )
        fractions["strict_success"] = fraction(
            [all(bool(e.success) for e in scene) for scene in scenes.values()]
        )
    return fractions


def fraction(flags: Sequence[bool]) -> Fraction:
    """Return how many of `flags` hold."""
    count, n = sum(flags), len(flags)
    return {"count": count, "n": n, "rate": count / n, "ci": wilson_interval(count, n)}


def fix_instruction(env: GymEnv, sentence: str) -> None:
    """Give all episodes of an environment one instruction, so that success is success at what it says.

    Raises:
      UserError: its task takes no instruction, or the sentence leaves open which of its requests is meant.
    """
    task = task_of(env)
    if task is None:
        raise UserError(
            f"The environment {name_of(env)!r} has no Task, and takes no instruction; leave it out."
        )
    if not task.say(sentence):
        raise UserError(
            f"The instruction {sentence!r} does not name exactly one of {', '.join(task.requests)}, so that"
            " no episode could be called a success; name one."
        )


def check_requests(env: GymEnv) -> tuple[str, ...]:
    """Return the requests of the environment's task; UserError if it has less than two."""
    task = task_of(env)
    requests = task.requests if task is not None else ()
    if len(requests) < 2:
        raise UserError(
            f"every_instruction runs each scene once for every instruction, and {name_of(env)!r} has no"
            " choice of them; leave it out, or use an environment such as 'pick_place_color'."
        )
    return requests


def run_every_instruction(
    env: GymEnv, policy: Predictor, seeds: Sequence[int], max_steps: int | None = None
) -> Iterator[EpisodeResult]:
    """Run each scene once for every request of the task, and yield results as episodes end.

    Args:
      env: of this package, single or vector, with a task that has requests.
      policy, max_steps: as of `run_suite`.
      seeds: one for each scene; its episodes differ in nothing but the request.

    Yields:
      m results for each scene, whose `index` is m * scene + request.

    Raises:
      UserError: the task has less than two requests.
    """
    requests = check_requests(env)
    task = task_of(env)
    assert task is not None
    try:
        # one request at a time: all envs that begin an episode are asked for the same
        for k, request in enumerate(requests):
            task.ask(request)
            for result in run_suite(env, policy, seeds, max_steps):
                yield replace(result, index=len(requests) * result.index + k)
    finally:  # also if the caller stops early: the environment is theirs
        task.ask(None)
