"""Policies by name: the expert, random actions, a trained model, a Python function, or a server.

    make_policy("scripted", env)                      # the expert of the environment's task
    make_policy("random", env)
    make_policy("runs/reach", env)                    # a checkpoint, or the folder or name of a run
    make_policy("my_package.policies:go", env)        # a function, or a class that is a `Policy`
    make_policy("ws://10.0.0.5:8765", env)            # a policy on a server, `simscale serve`

Torch is imported only for a checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array
from simscaleai.errors import MissingFileError, UserError, did_you_mean, unknown_name
from simscaleai.plugins import import_from_here
from simscaleai.policy import Policy, RandomPolicy
from simscaleai.rollout.gym_types import GymEnv
from simscaleai.rollout.served_policy import ServedPolicy, is_server
from simscaleai.storage.find_checkpoint import RUNS, checkpoint_sha256, find_checkpoint

NAMES = ("random", "scripted")
ACCEPTED = (
    "'random', 'scripted', the path of a checkpoint, a run's folder or name, a Python function as"
    " 'module:function', or a server as 'ws://HOST:PORT'"
)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

PolicyFunction = Callable[[Mapping[str, Array]], Array]
"""Observations {key: (n, ...)} to actions (n, action_dim)."""


class FunctionPolicy:
    """Policy without memory that calls a function."""

    def __init__(self, function: PolicyFunction) -> None:
        self._function = function

    def reset(
        self,
        mask: NDArray[np.bool_],
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Do nothing."""

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        """Return the actions (n, action_dim) for observations {key: (n, ...)}."""
        return np.asarray(self._function(obs), np.float32)


def resolve_policy(name: str) -> str:
    """Return the full name of a policy: for a run, the path of its checkpoint.

    Raises:
      MissingFileError: no such name, and no such checkpoint.
      UserError: no such function.
    """
    if name in NAMES or is_server(name):
        return name
    # import a function now, so that a mistake shows before the first episode
    if is_function(name):
        _load(name)
        return name
    if not Path(name).exists() and not (RUNS / name).exists():
        raise MissingFileError(
            f"Unknown policy {name!r}: give {ACCEPTED}.{did_you_mean(name, NAMES)}"
        )
    return str(find_checkpoint(name))


def is_function(name: str) -> bool:
    """Return whether a policy's name is that of a Python function."""
    # a file may have a colon in its name
    return _FUNCTION.fullmatch(name) is not None and not Path(name).exists()


def policy_sha256(name: str) -> str:
    """Return the SHA-256 of a policy's checkpoint, or of the file of its function; a server says its own.

    It is "" for "random" and "scripted", which are part of the package and the task. Raises the errors of
    `resolve_policy`.
    """
    resolved = resolve_policy(name)
    if resolved in NAMES:
        return ""
    if is_server(resolved):
        served = ServedPolicy(resolved)
        served.close()
        return served.sha256
    if not is_function(resolved):
        return checkpoint_sha256(resolved)
    # a notebook or an interactive session has no file
    file = getattr(importlib.import_module(resolved.partition(":")[0]), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def make_policy(name: str, env: GymEnv) -> Policy:
    """Return the policy of a name from `resolve_policy`, for an environment of this package.

    Raises:
      UserError: the task has no expert, or the checkpoint does not fit the environment.
    """
    if name == "random":
        return RandomPolicy(env.contract.action_dim)
    if name == "scripted":
        # of the task, or a method of a user's environment class
        owner = env if env.task is None else env.task
        expert: Callable[[], Policy] | None = getattr(owner, "expert", None)
        if expert is None:
            raise UserError(
                f"The environment {env.contract.env_name!r} has no scripted expert; choose the policy"
                " 'random' or a checkpoint, or give its class a method expert() that returns a Policy."
            )
        return expert()
    if is_function(name):
        return function_policy(name)
    if is_server(name):
        served = ServedPolicy(name)
        if served.contract is not None:
            served.contract.require(env.contract)
        return served
    # only a checkpoint needs torch
    from simscaleai.models.policy import ModelPolicy

    policy = ModelPolicy.from_checkpoint(name)
    if policy.contract is not None:
        policy.contract.require(env.contract)
    return policy


def function_policy(name: str) -> Policy:
    """Return the policy "module:function": a function of observations, or a class or object with `act`.

    Raises:
      UserError: there is no such module or function, or it is none of these.
    """
    thing = _load(name)
    if inspect.isclass(thing):  # a class of policies, made without arguments
        thing = thing()
    if isinstance(thing, Policy):
        return thing
    if not callable(thing):
        raise UserError(
            f"The policy {name!r} is of type {type(thing).__name__}; give a function of observations"
            " {key: (n, ...)}, or a class with reset(mask, seeds, instructions) and act(obs)."
        )
    return FunctionPolicy(thing)


def _load(name: str) -> object:
    """Import the object "module:function", also from the working directory, as `python -m` does."""
    module_name, _, attribute = name.partition(":")
    try:
        module = import_from_here(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the user's module imports
        raise UserError(
            f"There is no module {module_name!r} for the policy {name!r}; install it, or run in the folder"
            " where it is."
        ) from None
    if not hasattr(module, attribute):
        known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise unknown_name(f"function of {module_name!r}", attribute, known)
    return getattr(module, attribute)
