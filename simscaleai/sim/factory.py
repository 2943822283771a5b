"""Environments by name: single ones, vector ones, and their registration with Gymnasium.

    env = make_env("reach", cameras=[], dt=0.005)
    envs = make_vec_env("pick_place", 64, domain_randomization=True)

After `import simscaleai.sim` also `gymnasium.make("simscaleai/PickPlace-v0")` and
`gymnasium.make_vec("simscaleai/PickPlace-v0", num_envs=64)`.
"""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import re
from pathlib import Path
from typing import Any

import gymnasium

from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.registry import Registry
from simscaleai.sim.autoreset import AutoresetMode, find_autoreset_mode
from simscaleai.sim.base_env import BaseRobotEnv, SimConfig
from simscaleai.sim.class_config import class_config, sim_config
from simscaleai.sim.policy_env import PolicyEnv, SerialVectorEnv
from simscaleai.sim.task import Task
from simscaleai.sim.task_env import TaskEnv
from simscaleai.sim.vector_env import TaskVectorEnv

logger = logging.getLogger(__name__)
_WARNED: set[str] = set()  # environments whose slowness this process has mentioned
_NO_LIMIT = 2**31 - 1  # steps; three years of simulated time at the default control_dt

_ENVS: Registry[Any] = Registry(
    "environment",
    {
        "reach": "simscaleai.sim.envs.reach_env:ReachEnv",
        "pick_place": "simscaleai.sim.envs.pick_place_env:PickPlaceEnv",
        "pick_place_color": "simscaleai.sim.tasks.pick_place_color:PickPlaceColor",
        "pick_place_goal": "simscaleai.sim.tasks.goal_tasks:PickPlaceGoal",
        "reach_around": "simscaleai.sim.tasks.reach_around:ReachAround",
        "reach_color": "simscaleai.sim.tasks.reach_color:ReachColor",
        "reach_goal": "simscaleai.sim.tasks.goal_tasks:ReachGoal",
        "sort": "simscaleai.sim.tasks.sort:Sort",
    },
)


def make_env(env_name: str, render_mode: str | None = None, **kwargs: Any) -> gymnasium.Env:
    """Make a single environment.

    Args:
      env_name: one of `list_envs()`.
      render_mode: None, "rgb_array" or "human".
      **kwargs: `SimConfig` fields; `config`, a `SimConfig` or a YAML file that they override; and `reward`,
        see `Task.set_reward`.

    Raises:
      UserError: an unknown name, field or value; for an unknown keyword it is a TypeError as well.
    """
    entry = _ENVS.get(env_name)
    for name in ("num_envs", "num_threads", "autoreset_mode"):
        if name in kwargs:
            raise UserError(
                f"make_env makes one environment, and {name} is for several; use make_vec_env instead."
            )
    reward = kwargs.pop("reward", None)
    config = kwargs.pop("config", None)
    env: gymnasium.Env
    # a TaskEnv with an argument, since a subclass made here could not be pickled
    if issubclass(entry, Task):
        env = TaskEnv(sim_config(config, **kwargs), render_mode, task_class=entry)
    else:
        env = entry(class_config(entry, config, **kwargs), render_mode)
    if reward is not None:
        if not isinstance(env, TaskEnv):
            raise UserError(
                f"The environment {env_name!r} has no Task and rewards by itself; leave reward out."
            )
        env.task.set_reward(reward)
    return env


@converted
def make_vec_env(
    env_name: str,
    num_envs: int,
    *,
    render_mode: str | None = None,
    autoreset_mode: str | AutoresetMode = "next_step",
    num_threads: int = 0,
    config: SimConfig | str | Path | None = None,
    reward: Any = None,
    **kwargs: Any,
) -> TaskVectorEnv:
    """Make `num_envs` environments that step together; without cameras unless asked.

    A class without a `Task` gives a `SerialVectorEnv`, in which they run one after the other.

    Args:
      env_name: one of `list_envs()`.
      num_envs: number of parallel environments.
      render_mode: None or "rgb_array".
      autoreset_mode: "next_step", "same_step" or "disabled", in any case, or Gymnasium's enum; see
        `sim.autoreset`.
      num_threads: threads that simulate; 0 is one for each core.
      config: a `SimConfig` or a YAML file.
      reward: see `Task.set_reward`.
      **kwargs: `SimConfig` fields, which override `config`.

    Raises:
      UserError: an unknown name, field or value (for an unknown keyword it is a TypeError as well), or an
        environment that is neither made from a `Task` nor a `BaseRobotEnv`.
    """
    if config is None:
        kwargs.setdefault("cameras", [])
    task_class = _task_class(env_name)
    if task_class is None:
        if reward not in (None, "default"):
            raise UserError(
                f"The environment {env_name!r} has no Task and rewards by itself; leave reward out."
            )
        # it has what callers use of a TaskVectorEnv, with None for the task
        return _serial_envs(env_name, num_envs, render_mode, autoreset_mode, config, kwargs)  # type: ignore[return-value]
    env = TaskVectorEnv(
        task_class,
        num_envs,
        sim_config(config, **kwargs),
        render_mode=render_mode,
        autoreset_mode=autoreset_mode,
        num_threads=num_threads,
    )
    env.task.set_reward(reward)
    return env


def make_policy_env(env_name: str, config: SimConfig) -> TaskEnv | PolicyEnv:
    """Make a single environment that any policy of this package can act in.

    Raises:
      UserError: as of `make_vec_env`.
    """
    env = make_env(env_name, config=config)
    if isinstance(env, TaskEnv):
        return env
    return PolicyEnv(env_name, _base_env(env_name, env))


def env_config(env_name: str, **values: Any) -> SimConfig:
    """Return the settings of an environment: those of its class, changed by `values`.

    Raises:
      UserError: an unknown name, field or value.
    """
    entry = _ENVS.get(env_name)
    own = None if _task_class(env_name) is not None else class_config(entry, None, **values)
    return sim_config(None, **values) if own is None else own


def _serial_envs(
    env_name: str,
    num_envs: int,
    render_mode: str | None,
    autoreset_mode: str | AutoresetMode,
    config: SimConfig | str | Path | None,
    kwargs: dict[str, Any],
) -> SerialVectorEnv:
    if num_envs < 1:
        raise UserError(f"num_envs is {num_envs}; it must be at least 1.")

    def make() -> BaseRobotEnv:
        return _base_env(env_name, make_env(env_name, render_mode, config=config, **kwargs))

    envs = SerialVectorEnv(env_name, make, num_envs, find_autoreset_mode(autoreset_mode))
    if num_envs > 1 and env_name not in _WARNED and multiprocessing.parent_process() is None:
        _WARNED.add(env_name)
        logger.warning(
            "The environment %r has no Task, so its %d simulations run one after the other, which is slower;"
            " a Task runs them as one batch.",
            env_name,
            num_envs,
        )
    return envs


def _base_env(env_name: str, env: gymnasium.Env) -> BaseRobotEnv:
    if not isinstance(env, BaseRobotEnv):
        raise UserError(
            f"The environment {env_name!r} is neither made from a Task nor a BaseRobotEnv; use"
            " gymnasium.vector.SyncVectorEnv with make_env, which evaluate_policy and agents take."
        )
    return env


def make_gymnasium_env(
    env_name: str, render_mode: str | None = None, **kwargs: Any
) -> gymnasium.Env:
    """`make_env` for Gymnasium's ids: as with `make_vec_env`, without cameras unless asked.

    `gymnasium.make(id, max_episode_steps=n)` ends episodes after n steps, and never with n = -1.
    """
    limit = _gymnasium_limit()
    if limit is not None:
        kwargs["max_episode_steps"] = limit if limit != -1 else _NO_LIMIT
    if kwargs.get("config") is None and _task_class(env_name) is not None:
        kwargs.setdefault("cameras", [])
    return make_env(env_name, render_mode, **kwargs)


def _gymnasium_limit() -> int | None:
    """Return the `max_episode_steps` of the running call of `gymnasium.make`, or of its `EnvSpec`.

    `gymnasium.make` does not pass the argument on: it wraps the environment in a `TimeLimit`, which can end
    episodes sooner than the environment does, but not later. So it is read from the frame of that call.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is gymnasium.make.__code__:
            limit: int | None = frame.f_locals.get("max_episode_steps")
            return limit or getattr(frame.f_locals.get("env_spec"), "max_episode_steps", None)
        frame = frame.f_back
    return None


# where `gymnasium.make` looks up what can be rendered, "rgb_array_list" for example
make_gymnasium_env.metadata = BaseRobotEnv.metadata  # type: ignore[attr-defined]


def _task_class(env_name: str) -> type[Task] | None:
    """Return the `Task` of an environment; None for one that is written without."""
    entry = _ENVS.get(env_name)
    task_class: type[Task] | None = (
        entry if issubclass(entry, Task) else getattr(entry, "task_class", None)
    )
    return task_class


def register_env(name: str, cls: type) -> None:
    """Give an environment class or a `Task` class a name.

    An environment class is called as `cls(config, render_mode)`. If `config` has a default, `make_env(name)`
    leaves it out, so that the class uses its own settings; settings of the caller change single fields.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(
            f"The environment name {name!r} may have letters, digits, '_' and '-' only."
        )
    _ENVS.register(name, cls)
    _register_with_gymnasium()


def list_envs() -> list[str]:
    """Return all environment names, sorted."""
    return _ENVS.names()


def added_envs() -> dict[str, type]:
    """Return {name: class} of environments that are not built in."""
    return _ENVS.added()


def gym_id(name: str) -> str:
    """Return the id of a registered environment for `gymnasium.make`."""
    title = "".join(part.capitalize() for part in name.split("_"))
    return f"simscaleai/{title}-v0"


def _register_with_gymnasium() -> None:
    for name in _ENVS.known():  # not list_envs: a plugin imports this module
        env_id = gym_id(name)
        if env_id not in gymnasium.registry:
            gymnasium.register(
                id=env_id,
                entry_point="simscaleai.sim.factory:make_gymnasium_env",
                vector_entry_point="simscaleai.sim.factory:make_vec_env",
                kwargs={"env_name": name},
            )


_register_with_gymnasium()
