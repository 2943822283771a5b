"""`call`, `get_attr` and `set_attr` of a vector environment, as Gymnasium's own ones have them.

    envs.call("instruction")                 # one sentence for each environment
    envs.get_attr("action_space")            # that of each single one
    envs.set_attr("level", [1, 2, 3])        # something of one's own, kept for each

The environments of a batch share one model, task and configuration. A shared attribute is looked up, or
called, once, and returned for each.
"""

from __future__ import annotations

import numpy as np

from simscaleai.errors import UserError
from simscaleai.sim.core import TaskCore

# attributes whose value for one env has another name here
_OF_ONE = {"observation_space": "single_observation_space", "action_space": "single_action_space"}
# methods that take all envs at once, and so have no result per env
_OF_ALL = ("reset", "step", "get_state", "set_state", "call", "get_attr", "set_attr")


class VectorAttributes:
    """Mixin for a vector environment, which has the attributes below."""

    num_envs: int
    core: TaskCore
    _own: dict[str, tuple[object, ...]]  # {name: one value per env}, set by `set_attr`

    def call(self, name: str, *args: object, **kwargs: object) -> tuple[object, ...]:
        """Call the method `name`, or read the attribute, of each environment: n results.

        Raises:
          AttributeError: there is none.
          UserError: a method that takes all environments at once, such as "step".
        """
        if name in _OF_ALL:
            raise UserError(
                f"{name} takes all environments at once; use it as a method of its own."
            )
        if name in self._own:
            return tuple(v(*args, **kwargs) if callable(v) else v for v in self._own[name])
        if name == "np_random_seed":
            return (None,) * self.num_envs if self.core.seeds is None else tuple(self.core.seeds)
        value = getattr(self, _OF_ONE.get(name, name))
        if name == "instruction":
            return tuple(value(env_id) for env_id in range(self.num_envs))
        if callable(value):
            value = value(*args, **kwargs)
        if name == "render" and value is not None:
            return tuple(value)
        if name == "states":  # (1, nstate) of each, as of a single environment
            return tuple(value[:, None])
        return (value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[object, ...]:
        """Return the attribute `name` of each environment; see `call`."""
        return self.call(name)

    def set_attr(self, name: str, values: object) -> None:
        """Set the attribute `name` of each environment.

        Args:
          values: a list or tuple of one for each, or one for all.

        Raises:
          UserError: another number of values, or different ones for what all environments share.
        """
        given = tuple(values) if isinstance(values, list | tuple) else (values,) * self.num_envs
        if len(given) != self.num_envs:
            raise UserError(
                f"set_attr got {len(given)} values of {name!r} for {self.num_envs} environments; give"
                " one for each, or one for all."
            )
        if not hasattr(self, name):
            self._own[name] = given
            return
        if not all(_same(value, given[0]) for value in given[1:]):
            raise UserError(
                f"All environments share {name!r}; give one value, or the same one for each."
            )
        setattr(self, name, given[0])


def _same(a: object, b: object) -> bool:
    return a is b or bool(np.all(a == b))
