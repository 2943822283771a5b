"""What a policy relies on in its environment, as plain data.

A dataset records the contract of the environment that made it, a checkpoint that of the data it was
trained on, and evaluation compares the two with the environment at hand: a policy never runs on
observations, actions or a control rate that it was not trained for without an error that lists every
difference.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from simscaleai.errors import UserError
from simscaleai.observations import read_shapes


@dataclass(frozen=True)
class EnvContract:
    """One environment as its policy sees it.

    Attributes:
      env_name: the registered name.
      env_config: the settings that rebuild it: `SimConfig` fields as JSON values.
      obs_shapes: {key: shape} of one observation.
      obs_dtypes: {key: NumPy dtype name}.
      action_dim: width of an action; every entry lies in [-1, 1].
      control_dt: seconds between two actions.
      action_names: of an action's entries, in words; empty where they are not known.
      action_units: what 1 means, for each entry; likewise.
      instructions: {what can be asked for: sentences of training data that ask for it}; empty where all mean
        the same. `actions_by_instruction` of a dataset has this order.
    """

    env_name: str
    env_config: dict[str, Any]
    obs_shapes: dict[str, tuple[int, ...]]
    obs_dtypes: dict[str, str]
    action_dim: int
    control_dt: float
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    instructions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        data = asdict(self)
        data["obs_shapes"] = {k: list(v) for k, v in self.obs_shapes.items()}
        data["action_names"], data["action_units"] = (
            list(self.action_names),
            list(self.action_units),
        )
        # most environments have none, and then their datasets and checkpoints stay as they were
        del data["instructions"]
        if self.instructions:
            # pairs: JSON files sort the keys of a mapping, and the order counts
            data["instructions"] = [[k, list(v)] for k, v in self.instructions.items()]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EnvContract:
        """Inverse of `to_dict`; fields it does not know are left out.

        Raises:
          UserError: a field is missing or of the wrong type.
        """
        known = {k: data[k] for k in cls.__dataclass_fields__ if k in data}
        read = cls(**{**dict.fromkeys(cls.__dataclass_fields__), **known})
        for name, kind in (("env_name", str), ("env_config", dict), ("action_dim", int)):
            if not isinstance(getattr(read, name), kind):
                raise UserError(f"A contract's {name} is {getattr(read, name)!r}; it is damaged.")
        if not isinstance(read.control_dt, int | float) or not 0 < read.control_dt < math.inf:
            raise UserError(f"A contract's control_dt is {read.control_dt!r} s; it is damaged.")
        shapes, dtypes = read_shapes(read.obs_shapes, read.obs_dtypes)
        names, units = (
            _labels(known.get(k), read.action_dim) for k in ("action_names", "action_units")
        )
        return replace(
            read,
            obs_shapes=shapes,
            obs_dtypes=dtypes,
            action_names=names,
            action_units=units,
            instructions=_sentences(known.get("instructions")),
        )

    def differences(self, env: EnvContract) -> list[str]:
        """What the environment `env` lacks or does otherwise, one sentence each; empty if it fits.

        Keys that the environment has beyond this contract do no harm.
        """
        found = []
        for key, shape in self.obs_shapes.items():
            if key not in env.obs_shapes:
                found.append(f"observation {key!r} {shape} is missing")
            elif shape != env.obs_shapes[key]:
                found.append(
                    f"observation {key!r} has shape {env.obs_shapes[key]}, expected {shape}"
                )
            elif self.obs_dtypes.get(key) != env.obs_dtypes.get(key):
                found.append(
                    f"observation {key!r} is {env.obs_dtypes.get(key)},"
                    f" expected {self.obs_dtypes.get(key)}"
                )
        if self.action_dim != env.action_dim:
            found.append(f"actions have {env.action_dim} entries, expected {self.action_dim}")
        elif self.action_names and env.action_names and self.action_names != env.action_names:
            found.append(
                f"actions are ({', '.join(env.action_names)}), expected ({', '.join(self.action_names)})"
            )
        if abs(self.control_dt - env.control_dt) > 1e-9:
            found.append(f"control_dt is {env.control_dt} s, expected {self.control_dt} s")
        return found

    @staticmethod
    def of(env: Any) -> EnvContract | None:
        """Return the contract of an environment of this package; None for other people's.

        Those may have an attribute `contract` too, or `task` or `instruction`, that means something else.
        """
        found = getattr(getattr(env, "unwrapped", env), "contract", None)
        return found if isinstance(found, EnvContract) else None

    def require(self, env: EnvContract) -> None:
        """Raise UserError with every difference at once unless `env` fits."""
        found = self.differences(env)
        if found:
            raise UserError(
                f"The environment {env.env_name!r} does not fit the policy trained on"
                f" {self.env_name!r}: " + "; ".join(found) + "."
            )


def _labels(values: Any, width: int) -> tuple[str, ...]:
    """Words for the entries of an action of `width`; empty where a file has none."""
    if not isinstance(values, list | tuple) or len(values) != width:
        return ()
    return tuple(values) if all(isinstance(value, str) for value in values) else ()


def _sentences(pairs: Any) -> dict[str, tuple[str, ...]]:
    """The instructions in a file, [[name, sentences], ...]; empty where it has none, or something else."""
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs if isinstance(pairs, list | tuple) else ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            return {}
        name, sentences = pair
        if not isinstance(name, str) or not isinstance(sentences, list | tuple):
            return {}
        if not all(isinstance(sentence, str) for sentence in sentences):
            return {}
        found[name] = tuple(sentences)
    return found
