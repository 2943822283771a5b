"""Settings that every agent has."""

from __future__ import annotations

from dataclasses import dataclass

from simscaleai.convert import Converted


# Keyword-only, so that the positional arguments of a subclass are the settings of its own algorithm.
@dataclass(kw_only=True)
class AgentConfig(Converted):
    """Base of the settings of an agent; a subclass adds those of its algorithm.

    Attributes:
      n_steps: steps of each environment between two updates.
      total_timesteps: steps of all environments together.
      log_every: updates between records.
      seed: decides weights, noise and the environments' episodes.
      state_keys, relative_positions: what the agent reads; see `StateExtractor`.
      normalize_obs: normalize observations by running statistics.
    """

    n_steps: int = 50
    total_timesteps: int = 1_000_000
    log_every: int = 10
    seed: int = 0
    state_keys: list[str] | None = None
    relative_positions: bool = False
    normalize_obs: bool = True

    def problems(self) -> list[str]:
        """Return a clause for each setting that is out of range: "lr is 0, it must be positive"."""
        return self.not_positive("n_steps", "total_timesteps", "log_every")

    def not_positive(self, *names: str) -> list[str]:
        """Return a clause for each of these settings that is not above 0."""
        # `not value > 0` instead of `value <= 0`: NaN is refused too
        values = {name: getattr(self, name) for name in names}
        return [
            f"{name} is {value}, it must be positive"
            for name, value in values.items()
            if not value > 0
        ]

    def outside_unit(self, *names: str) -> list[str]:
        """Return a clause for each of these settings that is not in [0, 1]."""
        values = {name: getattr(self, name) for name in names}
        return [
            f"{name} is {value}, it lies between 0 and 1"
            for name, value in values.items()
            if not 0 <= value <= 1
        ]
