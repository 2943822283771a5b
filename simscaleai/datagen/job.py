"""Settings that episodes of a dataset are run with; they travel to workers."""

from __future__ import annotations

from dataclasses import dataclass, field

from simscaleai.json_types import JsonDict
from simscaleai.rollout.registered import Registered
from simscaleai.storage.episode import Episode


@dataclass(frozen=True)
class Job:
    """Settings of a worker.

    Attributes:
      env_name, env_kwargs, randomization, max_steps: the environment.
      policy_type, noise, seed: see `generate_dataset`.
      only_success: store only the arrays of episodes that succeeded; see `wants`.
      num_envs: the largest number of envs that a worker steps together.
      num_threads: physics threads of one worker; 0: all cores.
      next_obs: whether to record the observation after each action, too.
      expert_labels, switch_instructions: see `generate_dataset`.
    """

    env_name: str
    randomization: str | None
    max_steps: int
    policy_type: str
    noise: float
    seed: int
    only_success: bool
    num_envs: int
    num_threads: int
    env_kwargs: JsonDict = field(default_factory=dict)
    next_obs: bool = False
    expert_labels: bool = False
    switch_instructions: bool = False

    def wants(self, episode: Episode) -> bool:
        """Return whether an episode belongs in the dataset; never if its physics became unstable."""
        return not episode.diverged and (episode.success or not self.only_success)

    def registered(self) -> Registered:
        """Return what a worker needs of what the caller has registered; see `Registered.of`."""
        return Registered.of(self.env_name, self.env_kwargs.get("controller"), self.policy_type)
