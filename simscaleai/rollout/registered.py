"""What the caller has registered, for processes that have not run the caller's program.

    things = Registered.of("my_task", policy="scripted")     # here
    things.register()                                        # in a worker, to which it has travelled

Environments, models, controllers and robots of plugins need none of this: a worker imports the plugins too.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass, field
from typing import Any, Self

from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.rollout.policies import NAMES
from simscaleai.sim.factory import added_envs, register_env
from simscaleai.sim.robots.controllers import added_controllers, register_controller
from simscaleai.sim.robots.robot import Robot, added_robots, register_robot

_MODELS = "simscaleai.models.registry"


@dataclass(frozen=True)
class Registered:
    """Environments, models and controllers by name, and robots, that are not built in."""

    envs: JsonDict = field(default_factory=dict)
    models: JsonDict = field(default_factory=dict)
    controllers: JsonDict = field(default_factory=dict)
    robots: tuple[Robot, ...] = ()

    @classmethod
    def of(cls, env_name: str, controller: str | None = None, policy: str | None = None) -> Self:
        """Return what running a policy in an environment needs of it.

        Args:
          env_name: a registered environment.
          controller: a registered controller, if not the default one.
          policy: as for `simscaleai.rollout.policies.make_policy`; None if none acts.

        Raises:
          UserError: the environment or the controller is defined where no other process can import it.
        """
        models: JsonDict = {}
        if policy is not None and policy not in NAMES and _MODELS in sys.modules:
            added = sys.modules[_MODELS].added_models()
            # Only the checkpoint says which model it is of. One that no other process can import is left out:
            # the worker would name it, if that was the one.
            models = {k: v for k, v in added.items() if isinstance(v, str) or _can_import(v)}
        made = cls(
            {name: env for name, env in added_envs().items() if name == env_name},
            models,
            {name: each for name, each in added_controllers().items() if name == controller},
            tuple(added_robots().values()),
        )
        made._check()
        return made

    @property
    def needs_main(self) -> bool:
        """Return whether some of them are defined in the main program."""
        return any(thing.__module__ == "__main__" for thing in self._things())

    def register(self) -> None:
        """Register them in the worker, if importing them has not done so."""
        for robot in self.robots:
            register_robot(robot)
        for name, cls in self.envs.items():
            register_env(name, cls)
        for name, cls in self.controllers.items():
            register_controller(name, cls)
        for name, cls in self.models.items():
            importlib.import_module(_MODELS).register_model(name)(cls)

    def _check(self) -> None:
        """Raise UserError if some of them are defined where another process cannot import them."""
        place = ""
        if not all(map(_can_import, self._things())):
            place = "inside a function"
        elif self.needs_main and not _can_import_main():
            place = "in a program that is no file"
        if place:
            raise UserError(
                "Worker processes cannot import"
                f" {', '.join([*self.envs, *self.models, *self.controllers])}, which is defined {place};"
                " define it in a module of its own, or use one worker."
            )

    def _things(self) -> list[Any]:
        """Return them without those that are registered as "module:attribute"."""
        things = [*self.envs.values(), *self.models.values(), *self.controllers.values()]
        return [thing for thing in things if not isinstance(thing, str)]


def _can_import(thing: type) -> bool:
    """Return whether another process can import a class: none that is defined inside a function."""
    return "<locals>" not in thing.__qualname__


def _can_import_main() -> bool:
    """Return whether the main program is a module or a file, not a notebook or standard input."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is not None or bool(file and os.path.isfile(file))
