"""Who drives, and where: a policy by name or as a checkpoint, and the environment that fits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simscaleai.datagen.policies import NAMES, find_policy, make_policy
from simscaleai.policy import Policy
from simscaleai.rollout.policy_environment import image_shapes, policy_environment
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.factory import sim_config

ENV = "reach"
TITLES = {"scripted": "expert", "random": "random policy"}


@dataclass(frozen=True)
class Driver:
    """A policy before it has an environment.

    Attributes:
      env_name, config: what to make: without cameras, unless the policy looks through some.
      title: what to call it.
    """

    env_name: str
    config: SimConfig
    title: str
    _name: str
    _model: Any

    def policy(self, env: Any) -> Policy:
        """The policy for `env`, single or vector; UserError if the two do not fit."""
        if self._model is None:
            return make_policy(self._name, env)
        model: Any = self._model
        if model.contract is not None:
            model.contract.require(env.contract)
        policy: Policy = model
        return policy


def find_driver(policy: str, env_name: str | None = None, randomize: str | None = None) -> Driver:
    """A policy and the environment for it.

    Args:
      policy: "scripted" (the expert), "random", or the path of a checkpoint.
      env_name: environment; None is the checkpoint's own, and "reach" for the other policies.
      randomize: randomization level; None for none, whatever a checkpoint's data had.

    Raises:
      UserError: there is no such policy, or a checkpoint that cannot be read or says no environment.
    """
    if policy in NAMES:
        level = {} if randomize is None else {"randomization_level": randomize}
        config = sim_config(cameras=[], domain_randomization=randomize is not None, **level)
        return Driver(env_name or ENV, config, TITLES[policy], policy, None)
    policy = find_policy(policy)  # says what is allowed if there is no such file
    from simscaleai.models.policy import ModelPolicy

    model = ModelPolicy.from_checkpoint(policy)
    name, config = policy_environment(model.contract, env_name, randomize, image_shapes(model))
    return Driver(name, config, f"checkpoint {policy}", policy, model)
