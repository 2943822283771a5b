"""Attributes by which a model declares its inputs and outputs; all are optional.

obs_keys = ("state",)      observation entries that it reads, such as "state" and "image"; all by default
uses_language = False      whether it takes batch["language"] and predict(obs, language=...)
action_horizon = 1         L consecutive actions that it predicts: (B, L, A), with batch["mask"] (B, L) False
                           past the end of the episode; (B, A) for L = 1
n_obs_steps = 1            H consecutive observations that it reads: entries are (B, H, ...), the present last
n_action_steps = 1         actions of a chunk that are executed before the next prediction
temporal_ensemble = None   weight m of the average over chunks (`action_queue`), in place of n_action_steps
noise_shape = None         shape of the standard normal numbers that predict(obs, noise=...) takes per env
rebuild_with = {}          arguments that a checkpoint records besides those of the constructor call, as plain
                           data, so that the model is rebuilt without the files it was made from; as a class
                           attribute, the arguments for a checkpoint that records none
privileged_keys = ()       positions that it predicts besides actions: batch["privileged"] is {key: (B, 3)} of
                           the present step, not normalized; in training and validation only
image_shape = None         (channels, height, width) of every image that it reads; a side may be None for any
normalization = {}         modes of "state" (mean_std) and "actions" (identity); see `normalization`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from torch import nn

from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.models.normalization import DEFAULT_MODE


@dataclass(frozen=True)
class Declared:
    """Declared attributes of one model, with the defaults above where it has none."""

    obs_keys: Sequence[str] | None = None
    uses_language: bool = False
    action_horizon: int = 1
    n_obs_steps: int = 1
    n_action_steps: int = 1
    temporal_ensemble: float | None = None
    noise_shape: tuple[int, ...] | None = None
    image_shape: tuple[int, int | None, int | None] | None = None
    privileged_keys: tuple[str, ...] = ()
    normalization: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module) -> Declared:
        """Return the declarations of `model`; UserError if its numbers contradict each other."""
        # By `hasattr`: models need no base class, and nn.Module raises for what is missing.
        declared = cls(
            **{f.name: getattr(model, f.name) for f in fields(cls) if hasattr(model, f.name)}
        )
        if not 1 <= declared.n_action_steps <= declared.action_horizon:
            raise UserError(
                f"n_action_steps is {declared.n_action_steps}; of action_horizon"
                f" {declared.action_horizon} predicted actions, 1 to {declared.action_horizon} can be"
                " executed."
            )
        return declared

    @property
    def modes(self) -> dict[str, str]:
        """Normalization modes {"state": mode, "actions": mode}."""
        return {"state": DEFAULT_MODE, "actions": "identity", **self.normalization}


def obs_keys(model: nn.Module) -> Sequence[str] | None:
    """Return the observation entries that the model declares to read; None if it does not declare any."""
    return getattr(model, "obs_keys", None)


def uses_language(model: nn.Module) -> bool:
    """Return whether the model declares to read an instruction."""
    return bool(getattr(model, "uses_language", False))


def describe_model(model: nn.Module) -> JsonDict:
    """Return name and arguments of a model made by `create_model`; an empty dict for any other."""
    name, kwargs = getattr(model, "registered", (None, None))
    if name is None:
        return {}
    about: JsonDict = {"model_name": name, "model_kwargs": kwargs}
    more = {k: v for k, v in getattr(model, "rebuild_with", {}).items() if v}
    return {**about, "rebuild_with": more} if more else about
