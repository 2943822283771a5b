"""Worker processes of any program: a script, guarded or not, a notebook, standard input.

    process, pipe = spawn(serve, order(job))      # serve(pipe, order) runs in the process

A process that Python spawns imports the main program again, which may then run its work again. Ours do so
only if they need an environment or a model that is defined there. From other modules these are imported
directly.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from simscaleai.errors import UserError
from simscaleai.executors.main_module import without_main
from simscaleai.json_types import JsonDict
from simscaleai.rollout.policies import NAMES
from simscaleai.sim.factory import added_envs, register_env
from simscaleai.sim.robots.controllers import added_controllers, register_controller
from simscaleai.sim.robots.robot import Robot, added_robots, register_robot

_NAME = "simscaleai-datagen"
_MODELS = "simscaleai.models.registry"
UNGUARDED = 96
"""Exit code of a process that was about to generate data while it imported the main program."""


@dataclass(frozen=True)
class Order:
    """A job with the environments, models, controllers and robots that it needs and that are not built in."""

    job: Any
    envs: JsonDict
    models: JsonDict
    controllers: JsonDict
    robots: tuple[Robot, ...] = ()

    @property
    def needs_main(self) -> bool:
        """Return whether some of them are defined in the main program."""
        return any(thing.__module__ == "__main__" for thing in self._things())

    def check(self) -> None:
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

    def _things(self) -> list[Any]:
        """Return them without those that are registered as "module:attribute"."""
        things = [*self.envs.values(), *self.models.values(), *self.controllers.values()]
        return [thing for thing in things if not isinstance(thing, str)]


def order(job: Any) -> Order:
    """Return the checked order for a worker process to do `job` (`worker_pool.Job`)."""
    envs = {name: cls for name, cls in added_envs().items() if name == job.env_name}
    robots = tuple(added_robots().values())
    used = job.env_kwargs.get("controller")
    controllers = {k: cls for k, cls in added_controllers().items() if k == used}
    models = {}
    if job.policy_type not in NAMES and _MODELS in sys.modules:
        added = sys.modules[_MODELS].added_models()
        # Only the checkpoint says which model it is of. One that no other process can import is left out:
        # the worker would name it, if that was the one.
        models = {k: v for k, v in added.items() if isinstance(v, str) or _can_import(v)}
    made = Order(job, envs, models, controllers, robots)
    made.check()
    return made


def spawn(serve: Callable[[Connection, Order], None], order: Order) -> tuple[Any, Connection]:
    """Start a process that runs `serve`; return it and this end of its pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, order), name=_NAME, daemon=True)
    with without_main(unless=order.needs_main):
        process.start()
    theirs.close()
    return process, ours


def end_if_imported_by_worker() -> None:
    """Exit silently if this is a worker that was only importing the main program.

    The process that started it reports the mistake.
    """
    process = multiprocessing.current_process()
    if process.name == _NAME and getattr(process, "_inheriting", False):
        os._exit(UNGUARDED)


def how_it_ended(exit_code: int | None) -> UserError:
    """Return the error for a worker process that has ended by itself."""
    if exit_code == UNGUARDED:
        return UserError(
            "Worker processes import this program, as something that they need is defined in it, and then it"
            ' would generate data again; put what it does under `if __name__ == "__main__":`, or use one'
            " worker."
        )
    return UserError(
        f"A worker process ended by itself (exit code {exit_code}), perhaps for lack of memory; finished"
        " episodes are kept, run again with --resume and fewer --workers."
    )


def _can_import(thing: type) -> bool:
    """Return whether another process can import a class: none that is defined inside a function."""
    return "<locals>" not in thing.__qualname__


def _can_import_main() -> bool:
    """Return whether the main program is a module or a file, not a notebook or standard input."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is not None or bool(file and os.path.isfile(file))
