"""Fixed suites of episodes, many run at once.

Evaluation episode i of seed s starts from `episode_seed(s, i)`, a stream of its own: no episode of a
dataset starts there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from simscaleai import seeding
from simscaleai.errors import UserError
from simscaleai.memory import require_memory
from simscaleai.rollout.env_checks import takes_long_seeds
from simscaleai.rollout.gym_types import GymEnv, Predictor
from simscaleai.rollout.loop import Recorder, run_episodes
from simscaleai.rollout.outcomes import EpisodeResult, OutcomeRecorder

MAX_ENVS = 128
"""Most episodes that run at once, unless more are asked for."""

_EPISODE_BYTES = 100  # of its seed and its result, at the least


def episode_seeds(seed: int, n_episodes: int, setting: str = "n_episodes") -> list[int]:
    """Return the seeds of episodes 0 to n - 1; UserError if that many cannot be held, naming the setting."""
    require_memory(_EPISODE_BYTES * n_episodes, f"{setting}={n_episodes}")
    return [episode_seed(seed, i) for i in range(n_episodes)]


def episode_seed(seed: int, index: int) -> int:
    """Return the seed of evaluation episode `index` of suite `seed`."""
    return seeding.derive_seed(seed, "evaluation", index)


def suite(seed: int, n_episodes: int, env: GymEnv = None) -> list[int]:
    """Return the seeds of a suite of episodes.

    Args:
      seed: which suite.
      n_episodes: how many episodes.
      env: where they will run. Environments of other packages, which hand their seeds to NumPy's old
        generators or to C, get the lowest 31 bits of ours.

    Raises:
      UserError: a number is out of range.
    """
    if n_episodes < 1:
        raise UserError(f"n_episodes is {n_episodes}; it must be at least 1.")
    seed = seeding.check_seed(seed)
    seeds = episode_seeds(seed, n_episodes)
    return seeds if env is None or takes_long_seeds(env) else [s % 2**31 for s in seeds]


def run_suite(
    env: GymEnv,
    policy: Predictor,
    seeds: Iterable[int],
    max_steps: int | None = None,
    recorders: Sequence[Recorder] = (),
) -> Iterator[EpisodeResult]:
    """Run an episode for each of `seeds` and yield results as they end, in no particular order.

    Args and errors as of `run_episodes`.
    """
    outcomes = OutcomeRecorder()  # before the others, which may look at a result
    for _ in run_episodes(env, policy, seeds, [outcomes, *recorders], max_steps=max_steps):
        yield from outcomes.finished
