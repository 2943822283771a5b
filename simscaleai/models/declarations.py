"""What a model says of itself by attributes, all of which may be missing.

obs_keys = ("state",)      observation entries that it reads, such as "state" and "image"; all by default
uses_language = False      whether batch["language"] and predict(obs, language=...) are wanted
action_horizon = 1         consecutive actions that it predicts: (B, L, A) with batch["mask"] (B, L) of
                           those that belong to the episode; (B, A) for one
n_obs_steps = 1            observations that it looks at: each entry is (B, H, ...), the present one last
n_action_steps = 1         actions of a prediction that are executed before the next one
temporal_ensemble = None   weight of the average over predictions (`action_queue`), instead
noise_shape = None         of the normal numbers that one row of predict(obs, noise=...) takes
rebuild_with = {}          arguments that a checkpoint keeps besides those it was made with: plain data, with
                           which it is built again without the files that it was made from; of the class,
                           those that it is built again with if a checkpoint has none
privileged_keys = ()       positions that it learns besides actions: batch["privileged"] is {key: (B, 3)}, raw
                           values of the present step, while training and validating, and never when acting
image_shape = None         (channels, height, width) of every image that it reads, a side None for any
normalization = {}         modes of "state" (mean_std) and "actions" (identity); see `normalization`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Required, TypedDict

import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models.normalization import DEFAULT_MODE


class Batch(TypedDict, total=False):
    """What `forward` of a model is given; L is its action_horizon and H its n_obs_steps.

    Attributes:
      observations: {key: (B, ...)}, or (B, H, ...), normalized; images (B, C, height, width) in [0, 1].
      actions: (B, A), or (B, L, A).
      mask: (B, L), False for actions past the end of the episode.
      obs_mask: (B, H), False for observations before its start.
      language: B instructions.
      privileged: {key: (B, 3)}, m; see `privileged_keys`.
    """

    observations: Required[dict[str, torch.Tensor]]
    actions: Required[torch.Tensor]
    mask: torch.Tensor
    obs_mask: torch.Tensor
    language: list[str]
    privileged: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Declared:
    """The attributes of one model, with defaults where it has none."""

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
        """Raises UserError where the numbers contradict each other."""
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
        """{"state": mode, "actions": mode} of normalization."""
        return {"state": DEFAULT_MODE, "actions": "identity", **self.normalization}


def obs_keys(model: nn.Module) -> Sequence[str] | None:
    """The observation entries that the model declares to read; None if it does not say."""
    return getattr(model, "obs_keys", None)


def uses_language(model: nn.Module) -> bool:
    """Whether the model declares to read an instruction."""
    return bool(getattr(model, "uses_language", False))


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Name and arguments of a model made by `create_model`; an empty dict for any other."""
    name, kwargs = getattr(model, "registered", (None, None))
    if name is None:
        return {}
    about = {"model_name": name, "model_kwargs": kwargs}
    more = {k: v for k, v in getattr(model, "rebuild_with", {}).items() if v}
    return {**about, "rebuild_with": more} if more else about
