"""Run a policy over episodes: the one loop of data generation, evaluation, figures and viewers.

    outcomes = OutcomeRecorder()
    for _ in run_episodes(env, policy, seeds, [outcomes]):
        for result in outcomes.finished:
            print(result.index, result.success)

Promises:

- One episode for each seed, on any Gymnasium environment, single or vector, of any autoreset mode.
- An env whose episode ends is reset with the next seed while the others continue, if the environment can do
  that. Otherwise, the next episodes begin when all envs are free.
- In environments of this package, an episode depends only on its seed and the policy: not on the env in which
  it runs, on other envs, or on the time.

Trap: the loop is lazy. Nothing happens until the next `Rollout` is requested, so that a viewer can set the
pace and a caller can end the loop early.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.array_types import BoolArray, FloatArray
from simscaleai.rollout.env_checks import check_finite
from simscaleai.rollout.episode_env import EpisodeEnv
from simscaleai.rollout.gym_types import Action, GymEnv, Info, Obs, Predictor
from simscaleai.rollout.policy_adapter import PolicyAdapter


class Rollout:
    """State of n envs and the episodes that run in them; every step changes the same object.

    Attributes:
      episode: (n,) position in `seeds` of the episode in each env; -1 for none.
      seeds: n, of these episodes.
      instructions: n, of these episodes; None where the environment has none.
      length: (n,) control steps of these episodes so far.
      begun: (n,) bool, envs that have just been reset, including those without an episode.
      ended: (k,) env ids whose episodes ended with the newest step; empty after a reset.
      obs: the newest observation, as the environment returned it; the next action is computed from it.
      info: info of the newest reset or step; after a step, that of the state that the action led to.
      action: action of the policy, before noise, as `env.step` takes it.
      reward: (n,) float64, rewards of the newest step.
    """

    obs: Obs
    info: Info
    action: Action
    reward: FloatArray

    def __init__(self, env: GymEnv, seeds: Iterable[int], max_steps: int | None = None) -> None:
        self.env = EpisodeEnv(env)
        n = self.env.num_envs
        self._waiting = iter(seeds)
        self._max_steps = math.inf if max_steps is None else max_steps
        self._started = 0  # episodes
        self.episode = np.full(n, -1)
        self.seeds: list[int] = []
        self.instructions: list[str] | None = [""] * n if self.env.has_instructions else None
        self.length = np.zeros(n, dtype=np.int64)
        self.begun = np.zeros(n, dtype=bool)
        self.ended = np.zeros(0, dtype=np.intp)
        # (n,) the environment itself has ended the episode, and the env was not reset since
        self._over = np.ones(n, dtype=bool)

    @property
    def num_envs(self) -> int:
        """Number of envs."""
        return self.env.num_envs

    def begin(self) -> bool:
        """Give free envs their next episodes; return whether any env has one."""
        self.episode[self.ended] = -1
        self.ended = self.ended[:0]
        free = self.episode < 0
        if not free.any():
            self.begun = np.zeros_like(free)
            return True
        first = not self.seeds
        new = self._assign(free)
        if (self.episode < 0).all():
            return False
        # Envs without an episode have to be somewhere too: they are reset the first time, and where the
        # environment does not let a finished env stand still.
        mask = new.copy()
        if first or not self.env.stands_still:
            mask |= self._over if self.env.resets_alone else first or new.any()
        self.begun = mask
        if mask.any():
            self.obs, self.info = self.env.reset(mask, self.seeds)
            self.length[mask] = 0
            self._over[mask] = False
            if self.instructions is not None:
                for env_id in np.flatnonzero(new):
                    self.instructions[env_id] = self.env.instruction(int(env_id))
        return True

    def _assign(self, free: BoolArray) -> BoolArray:
        """Give the next seeds to free envs; return which envs got one, (n,) bool."""
        new = np.zeros(self.num_envs, dtype=bool)
        if not (self.env.resets_alone or free.all()):
            return new
        for env_id in np.flatnonzero(free):
            seed = next(self._waiting, None)
            if seed is None:
                break
            if not self.seeds:  # idle envs need one as well
                self.seeds = [int(seed)] * self.num_envs
            self.episode[env_id], self.seeds[env_id] = self._started, int(seed)
            new[env_id] = True
            self._started += 1  # position in `seeds`, whichever env runs it
        return new

    def step(self, action: Action) -> None:
        """Take one control step in every env."""
        self.begun = np.zeros_like(self.begun)  # a new one: a policy may have kept the last one
        self.obs, self.reward, self._over, self.info = self.env.step(action)
        self.length += 1  # also of idle envs, whose length nobody reads
        over = self._over | (self.length >= self._max_steps)
        self.ended = np.flatnonzero(over & (self.episode >= 0))

    def check_finite(self) -> None:
        """Raise UserError for NaN in the newest observation of a running episode."""
        env = self.env
        check_finite(self.obs, env.env, self.length, self.episode, self.seeds, not env.single)


class Recorder:
    """Observer of a rollout; a subclass overrides the methods that it needs."""

    def begin(self, rollout: Rollout) -> None:
        """Record the envs in `rollout.begun`, which have been reset."""

    def before_step(self, rollout: Rollout) -> None:
        """Record `rollout.obs` and `rollout.action`, which is executed next."""

    def after_step(self, rollout: Rollout) -> None:
        """Record the result of the action."""


class ExplorationNoise(Recorder):
    """Gaussian noise on executed actions, a function of only the episode's seed and step.

    Args:
      std: standard deviation, in units of an action.
      max_steps: largest number of steps of an episode.
    """

    def __init__(self, std: float, max_steps: int) -> None:
        self._std, self._max_steps = std, max_steps
        self._noise: FloatArray | None = None  # (n, max_steps, action_dim)

    def add(self, rollout: Rollout) -> NDArray[np.float32]:
        """Return the actions (n, action_dim) to execute, clipped to [-1, 1]."""
        action: NDArray[np.float32] = rollout.action
        n, action_dim = action.shape
        # all the noise of an episode is drawn at its start, so that it depends on nothing else
        if self._noise is None:
            self._noise = np.zeros((n, self._max_steps, action_dim))
        for env_id in np.flatnonzero(rollout.begun & (rollout.episode >= 0)):
            rng = seeding.generator(rollout.seeds[env_id], "exploration")
            self._noise[env_id] = rng.normal(0.0, self._std, self._noise.shape[1:])
        # idle envs stand still, whatever they are given
        noise = self._noise[np.arange(n), rollout.length % self._max_steps]
        return np.clip(action + noise, -1, 1).astype(np.float32)


def run_episodes(
    env: GymEnv,
    policy: Predictor,
    seeds: Iterable[int],
    recorders: Sequence[Recorder] = (),
    *,
    max_steps: int | None = None,
    noise: ExplorationNoise | None = None,
) -> Iterator[Rollout]:
    """Run an episode for each of `seeds`.

    Args:
      env: a Gymnasium environment or vector environment.
      policy: a `Policy`, or anything else that `PolicyAdapter` takes.
      seeds: of the episodes; may be endless.
      recorders: called at every reset and step, in this order, before the rollout is yielded.
      max_steps: control steps after which an episode is over, besides the environment's own limit.
      noise: noise added to the policy's actions before they are executed; recorders see the actions without.

    Yields:
      The rollout, always the same object, after every reset and every step.

    Raises:
      UserError: the environment or the policy gives something that cannot be used, such as NaN.
    """
    rollout = Rollout(env, seeds, max_steps)
    actor = policy if isinstance(policy, PolicyAdapter) else PolicyAdapter(policy, env)
    while rollout.begin():  # until no env has an episode
        if rollout.begun.any():
            actor.reset(rollout.begun, rollout.seeds, rollout.instructions)
            for recorder in recorders:
                recorder.begin(rollout)
            yield rollout
        if (idle := rollout.episode < 0).any():
            actor.rest(idle)
        rollout.check_finite()
        rollout.action = actor.act(rollout.obs)
        for recorder in recorders:
            recorder.before_step(rollout)
        # recorders have seen the policy's own action: noise is on what is executed alone
        rollout.step(rollout.action if noise is None else noise.add(rollout))
        for recorder in recorders:
            recorder.after_step(rollout)
        yield rollout
