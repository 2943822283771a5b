"""A model as a policy: raw observations in, actions out.

    policy = ModelPolicy.from_checkpoint("checkpoints/final.pt")
    actions = policy.act(obs)       # {key: (n, ...)} NumPy -> (n, action_dim) in [-1, 1]

Around any registered model it puts the observation spec (which keys make up `state`, in which order),
the normalization, and the contract of the environment that the data came from; all of it is saved in
the checkpoint. It is also the module that is trained, and so the two sides cannot differ.

The action of a row does not depend on the other rows: the model always sees the same number of rows,
padded with zeros, because matrix products of different shapes are rounded differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.models.inference import as_image, inference, load_weights, resolve_device
from simscaleai.models.normalization import Normalizer
from simscaleai.models.registry import create_model
from simscaleai.observations import ObsSpec, flatten_state, unflatten_state
from simscaleai.storage.checkpoint import load_checkpoint

ROWS = 64  # rows the model sees at once
IMAGE_ROWS = 8  # the same for models of images, where a row costs a thousand times more


class ModelPolicy(nn.Module):
    """`model` with everything it needs to act.

    Args:
      model: has `forward(batch)` and `predict(obs)`.
      spec: the observations that it was made for; without one, it takes whatever it is given.
      normalizer: statistics of "state"; without one, observations go in as they are.
      contract: the environment that the data came from; kept for the keys of `spec`.

    Attributes:
      instruction: what a model that uses language is told to do.
      instructions: what it is told in each row instead, n sentences; see `begin_episodes`.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: ObsSpec | None = None,
        normalizer: Normalizer | None = None,
        contract: EnvContract | None = None,
    ) -> None:
        super().__init__()
        assert normalizer is None or spec is not None
        self.model: Any = model
        self.spec = spec
        self.normalizer = normalizer
        if contract is not None and spec is not None:
            shapes = {k: v for k, v in contract.obs_shapes.items() if k in spec.shapes}
            dtypes = {k: v for k, v in contract.obs_dtypes.items() if k in spec.shapes}
            contract = replace(contract, obs_shapes=shapes, obs_dtypes=dtypes)
        self.contract = contract
        self.instruction: str | None = None
        self.instructions: list[str] | None = None

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The model's outputs for a batch of raw observations (with "state") and actions."""
        return self.model({**batch, "observations": self._inputs(batch["observations"])})

    def reset(self, mask: NDArray[np.bool_], seeds: Sequence[int]) -> None:
        """Forget the rows where `mask` is True: nothing, for a model of the present alone."""

    def act(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Actions (n, action_dim) in [-1, 1] for raw observations {key: (n, ...)}.

        Images are (n, H, W, 3) uint8. Entries that the policy does not use may be there too.

        Raises:
          UserError: an observation that the policy uses is missing or has another shape.
        """
        tensors = self._tensors(obs)
        n = len(next(iter(tensors.values())))
        size = ROWS if set(tensors) == {"state"} else IMAGE_ROWS
        device = next(self.parameters()).device
        actions = []
        with inference(self):
            for start in range(0, n, size):
                rows = {k: _padded(v[start : start + size], size) for k, v in tensors.items()}
                inputs = self._inputs({k: as_image(v.to(device)) for k, v in rows.items()})
                told = self._told(start, size)
                actions.append(self._predict(inputs, told)[: n - start].cpu().numpy())
        return np.clip(np.concatenate(actions), -1.0, 1.0, dtype=np.float32)

    def _told(self, start: int, size: int) -> str | list[str] | None:
        """What rows start..start+size-1 are told: a sentence each, or one for all of them."""
        if self.instructions is None:
            return self.instruction
        told = self.instructions[start : start + size]
        return told + [""] * (size - len(told))

    def _predict(
        self, inputs: dict[str, torch.Tensor], told: str | list[str] | None
    ) -> torch.Tensor:
        options = {"language": told} if uses_language(self.model) else {}
        actions = self.model.predict(inputs, **options)
        return actions[:, 0] if actions.ndim == 3 else actions  # of a chunk, what comes now

    def _inputs(self, obs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the model reads: a normalized state, its parts by name, and images as they are."""
        if self.normalizer is None or self.spec is None:
            return dict(obs)
        inputs = {k: obs[k] for k in self.spec.image_keys}
        if self.spec.state_keys:
            inputs["state"] = self.normalizer.normalize("state", obs["state"])
            wanted = obs_keys(self.model)
            if wanted is None or not set(wanted) <= inputs.keys():
                inputs |= unflatten_state(inputs["state"], self.spec)
        return inputs

    def _tensors(self, obs: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
        """{"state": (n, d) float32, image key: (n, H, W, 3) uint8} out of raw observations."""
        spec = self.spec or ObsSpec.of(obs, batched=True)
        wrong = [f"{k!r} is missing" for k in spec.shapes if k not in obs]
        for key, shape in spec.shapes.items():
            if key in obs and obs[key].shape[1:] != shape:
                wrong.append(f"{key!r} has rows of shape {obs[key].shape[1:]}, expected {shape}")
        if wrong:
            raise UserError("The observation does not fit the policy: " + "; ".join(wrong) + ".")
        tensors = {k: torch.from_numpy(np.ascontiguousarray(obs[k])) for k in spec.image_keys}
        if spec.state_keys:
            state = flatten_state(obs, spec.state_keys)
            tensors["state"] = torch.from_numpy(state.astype(np.float32, copy=False))
        return tensors

    def description(self) -> dict[str, Any]:
        """Plain data from which, together with the weights, `from_checkpoint` builds this again."""
        spec = self.spec
        return {
            **_name_and_arguments(self.model),
            "wrapped": True,
            "obs_shapes": {k: list(v) for k, v in spec.shapes.items()} if spec else None,
            "obs_dtypes": dict(spec.dtypes) if spec else None,
            "normalized": self.normalizer is not None,
            "contract": self.contract.to_dict() if self.contract else None,
        }

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto") -> ModelPolicy:
        """Build the policy from the checkpoint alone, ready to act.

        A checkpoint of a bare model (not trained as a `ModelPolicy`) works too: it acts on all
        observations there are, without normalization.

        Raises:
          UserError: the file is not a checkpoint of a model, its model is not registered here, or
            its weights do not fit.
        """
        target = resolve_device(device)
        payload = load_checkpoint(path)
        about = payload.get("policy")
        if not isinstance(about, dict) or "model_name" not in about:
            raise UserError(f"The checkpoint {str(path)!r} holds no model to act with.")
        with torch.random.fork_rng(devices=[]):  # initial weights are overwritten anyway
            model = create_model(about["model_name"], **about["model_kwargs"])
        spec = normalizer = contract = None
        if about.get("obs_shapes") is not None:
            shapes = {k: tuple(v) for k, v in about["obs_shapes"].items()}
            spec = ObsSpec(shapes, about["obs_dtypes"])
        if about.get("normalized"):
            assert spec is not None
            normalizer = Normalizer.blank({"state": spec.state_dim} if spec.state_keys else {})
        if about.get("contract") is not None:
            contract = EnvContract.from_dict(about["contract"])
        policy = cls(model, spec, normalizer, contract)
        load_weights(policy if about.get("wrapped") else model, payload["weights"], str(path))
        return policy.to(target).eval()


def describe(module: nn.Module) -> dict[str, Any]:
    """What a checkpoint says about the module it was trained as, for `from_checkpoint`."""
    if isinstance(module, ModelPolicy):
        return module.description()
    return _name_and_arguments(module)


def _name_and_arguments(model: nn.Module) -> dict[str, Any]:
    """Of a model made by `create_model`; an empty dict for any other."""
    name, kwargs = getattr(model, "registered", (None, None))
    return {} if name is None else {"model_name": name, "model_kwargs": kwargs}


def obs_keys(model: nn.Module) -> Sequence[str] | None:
    """The observation entries that the model declares to read; None if it does not say."""
    return getattr(model, "obs_keys", None)


def uses_language(model: nn.Module) -> bool:
    """Whether the model declares to be told what to do."""
    return bool(getattr(model, "uses_language", False))


def _padded(rows: torch.Tensor, size: int) -> torch.Tensor:
    if len(rows) == size:
        return rows
    return torch.cat([rows, rows.new_zeros(size - len(rows), *rows.shape[1:])])
