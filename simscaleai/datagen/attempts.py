"""How often an episode is tried before data generation gives up.

An attempt is left out if its physics became unstable or, with `only_success`, if it failed. A run that hardly
ever yields an episode has to end with a reason instead of trying for ever.
"""

from __future__ import annotations

from simscaleai import seeding
from simscaleai.datagen.recipe import Recipe, episode_seed
from simscaleai.errors import UserError

MAX_ATTEMPTS = 20  # attempts per wanted episode, for `only_success`
_MAX_UNSTABLE = 2  # without: where half of all simulations become unstable, something is wrong
_MIN_ATTEMPTS = 100


class TooFewSuccesses(UserError):
    """Too few episodes can be used: most are unstable, or fail with `only_success`."""


def most_attempts(recipe: Recipe, wanted: int) -> int:
    """Return after how many attempts to give up on `wanted` episodes."""
    return max((MAX_ATTEMPTS if recipe.only_success else _MAX_UNSTABLE) * wanted, _MIN_ATTEMPTS)


def attempt_seed(seed: int, index: int, attempt: int) -> int:
    """Return the seed of an attempt at episode `index`; attempt 0 is `episode_seed`.

    In a sharded dataset each episode is tried on its own until an attempt can be used, so that it depends
    on no other episode.
    """
    if attempt == 0:
        return episode_seed(seed, index)
    return seeding.derive_seed(seed, f"episode attempt {attempt}", index)


def too_few(
    recipe: Recipe, wanted: int, attempts: int, successes: int, diverged: int
) -> TooFewSuccesses:
    """Return the error for `attempts` that did not yield the `wanted` episodes."""
    if diverged > attempts // 2:
        return TooFewSuccesses(
            f"The physics became unstable in {diverged} of {attempts} episodes, which are no data; use a"
            " smaller dt, or stiffnesses, dampings and masses in the scene that fit it."
        )
    return TooFewSuccesses(
        f"Only {successes} of {attempts} attempts of the policy {recipe.policy!r} succeeded, and"
        f" {wanted} successes were asked for; use a better policy such as 'scripted', a longer"
        " max_steps, or leave out only_success."
    )
