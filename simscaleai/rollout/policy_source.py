"""Find a policy by name, and the environment that fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simscaleai.contract import EnvContract
from simscaleai.policy import Policy
from simscaleai.rollout.gym_types import GymEnv
from simscaleai.rollout.policies import NAMES, is_function, make_policy, resolve_policy
from simscaleai.rollout.policy_environment import image_shapes, policy_environment
from simscaleai.rollout.served_policy import ServedPolicy, is_server
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.factory import env_config

if TYPE_CHECKING:
    from simscaleai.models.policy import ModelPolicy

ENV = "reach"
TITLES = {"scripted": "expert", "random": "random policy"}


@dataclass(frozen=True)
class PolicySource:
    """Policy that has no environment yet.

    Attributes:
      env_name, config: the environment to make; it has no cameras unless the policy reads images.
      title: name of the policy in figures.
      name: result of `resolve_policy`.
      model: the model of a checkpoint; None for other policies.
      contract: of the environment that the policy was trained in; None where it was in none, or says none.
    """

    env_name: str
    config: SimConfig
    title: str
    name: str
    model: ModelPolicy | None = None
    contract: EnvContract | None = None

    @property
    def has_environment(self) -> bool:
        """Whether the policy decides on its environment, and not the caller."""
        return self.model is not None or self.contract is not None

    def policy(self, env: GymEnv) -> Policy:
        """Return the policy for `env`, single or vector; UserError if the two do not fit."""
        if self.model is None:
            return make_policy(self.name, env)
        if self.model.contract is not None:
            self.model.contract.require(env.contract)
        return self.model


def find_policy_source(
    policy: str,
    env_name: str | None = None,
    randomize: str | None = None,
    device: str = "auto",
    robot: str | None = None,
    env_kwargs: Mapping[str, object] | None = None,
) -> PolicySource:
    """Find a policy and the environment for it.

    Args:
      policy: "scripted" (the expert), "random", a checkpoint, the folder or name of a run,
        "module:function", or a server, "ws://HOST:PORT".
      env_name: environment; None is the checkpoint's own, and "reach" for the other policies.
      randomize: randomization level; None for none, whatever a checkpoint's data had.
      device: where a checkpoint's model runs.
      robot: name of a robot; None is the checkpoint's own, and the default one for the other policies.
      env_kwargs: further fields of `SimConfig`, which stand above those of a checkpoint.

    Raises:
      UserError: there is no such policy or setting, or a checkpoint that cannot be read or says no
        environment.
    """
    name = resolve_policy(policy)
    if name in NAMES or is_function(name):
        given = {"randomization_level": randomize, "robot": robot}
        given = {key: value for key, value in given.items() if value is not None}
        settings = {"cameras": [], **given, **(env_kwargs or {})}
        settings["domain_randomization"] = randomize is not None
        config = env_config(env_name or ENV, **settings)
        return PolicySource(env_name or ENV, config, TITLES.get(name, name), name)
    if is_server(name):
        return _served(name, env_name, randomize, robot, env_kwargs)
    from simscaleai.models.policy import ModelPolicy

    model = ModelPolicy.from_checkpoint(name, device)
    env_name, config = policy_environment(
        model.contract, env_name, randomize, image_shapes(model), robot, env_kwargs
    )
    return PolicySource(env_name, config, f"checkpoint {name}", name, model, model.contract)


def _served(
    url: str,
    env_name: str | None,
    randomize: str | None,
    robot: str | None,
    env_kwargs: Mapping[str, object] | None,
) -> PolicySource:
    """Ask a server which environment its policy is for."""
    served = ServedPolicy(url)
    served.close()
    if served.contract is None and not served.images:
        env_name = env_name or ENV
    env_name, config = policy_environment(
        served.contract, env_name, randomize, served.images, robot, env_kwargs
    )
    return PolicySource(env_name, config, f"server {url}", url, contract=served.contract)
