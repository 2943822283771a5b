"""Contract between a policy and its environment: observations, actions and control rate, as plain data.

A dataset records the contract of its environment, and a checkpoint the contract of its dataset. Evaluation
compares it with the environment at hand and raises one error with every difference, so that a policy never
runs on observations, actions or a control rate that it was not trained for.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace

from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.observations import read_shapes

_DT_TOLERANCE = 1e-9  # s; control_dt is a product of floats


@dataclass(frozen=True)
class EnvContract:
    """The properties of one environment that its policy depends on.

    Attributes:
      env_name: the registered name.
      env_config: `SimConfig` fields as JSON values, from which the environment is built again.
      obs_shapes: {key: shape} of one observation.
      obs_dtypes: {key: NumPy dtype name}.
      action_dim: width of an action; every entry lies in [-1, 1].
      control_dt: seconds between two actions.
      action_names: name of each entry of an action; empty where they are not known.
      action_units: physical meaning of the value 1, for each entry; empty where it is not known.
      instructions: {goal: instructions in the training data that ask for it}; empty if all instructions mean
        the same. `actions_by_instruction` of a dataset has this order.
    """

    env_name: str
    env_config: JsonDict
    obs_shapes: dict[str, tuple[int, ...]]
    obs_dtypes: dict[str, str]
    action_dim: int
    control_dt: float
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    instructions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> JsonDict:
        """Return the JSON values that `from_dict` reads."""
        data = asdict(self)
        # JSON has no tuples; after a round trip through a file the values are the same.
        data["obs_shapes"] = {k: list(v) for k, v in self.obs_shapes.items()}
        data["action_names"] = list(self.action_names)
        data["action_units"] = list(self.action_units)
        # Most environments have none; their datasets and checkpoints stay byte for byte the same.
        del data["instructions"]
        if self.instructions:
            # Pairs, since JSON files sort the keys of a mapping, and the order counts.
            data["instructions"] = [[k, list(v)] for k, v in self.instructions.items()]
        return data

    @classmethod
    def from_dict(cls, data: JsonDict) -> EnvContract:
        """Return the inverse of `to_dict`; unknown fields are left out.

        Raises:
          UserError: a field is missing or of the wrong type.
        """
        # A later release may record more; an earlier one recorded less, and its fields are None here.
        known = {k: data[k] for k in cls.__dataclass_fields__ if k in data}
        read = cls(**{**dict.fromkeys(cls.__dataclass_fields__), **known})
        for name, kind in (("env_name", str), ("env_config", dict), ("action_dim", int)):
            if not isinstance(getattr(read, name), kind):
                raise UserError(f"A contract's {name} is {getattr(read, name)!r}; it is damaged.")
        if not isinstance(read.control_dt, int | float) or not 0 < read.control_dt < math.inf:
            raise UserError(f"A contract's control_dt is {read.control_dt!r} s; it is damaged.")
        shapes, dtypes = read_shapes(read.obs_shapes, read.obs_dtypes)
        return replace(
            read,
            obs_shapes=shapes,
            obs_dtypes=dtypes,
            action_names=_labels(known.get("action_names"), read.action_dim),
            action_units=_labels(known.get("action_units"), read.action_dim),
            instructions=_sentences(known.get("instructions")),
        )

    def differences(self, env: EnvContract) -> list[str]:
        """Return one phrase for each way in which the contract `env` differs from this one; [] if none.

        Observations that only `env` has are no difference: the policy does not read them.
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
            # Equally many entries with other meanings: a joint-space policy in an end-effector environment.
            found.append(
                f"actions are ({', '.join(env.action_names)}), expected ({', '.join(self.action_names)})"
            )
        if abs(self.control_dt - env.control_dt) > _DT_TOLERANCE:
            found.append(f"control_dt is {env.control_dt} s, expected {self.control_dt} s")
        return found

    @staticmethod
    def of(env: object) -> EnvContract | None:
        """Return the contract of an environment of this package; None for any other environment."""
        found = getattr(getattr(env, "unwrapped", env), "contract", None)
        # Another package's `contract` may be anything.
        return found if isinstance(found, EnvContract) else None

    def require(self, env: EnvContract) -> None:
        """Raise UserError with every difference at once unless `env` fits."""
        found = self.differences(env)
        if found:
            raise UserError(
                f"The environment {env.env_name!r} does not fit the policy trained on"
                f" {self.env_name!r}: " + "; ".join(found) + "."
            )


def _labels(values: object, width: int) -> tuple[str, ...]:
    """Return the `width` labels of an action's entries; empty if a file has none, or others."""
    if not isinstance(values, list | tuple) or len(values) != width:
        return ()
    return tuple(values) if all(isinstance(value, str) for value in values) else ()


def _sentences(pairs: object) -> dict[str, tuple[str, ...]]:
    """Return the instructions of a file, [[name, sentences], ...]; {} if it has none, or other values."""
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
