"""Policy made of a model: it takes raw observations and returns actions.

    policy = ModelPolicy.from_checkpoint("checkpoints/final.pt")
    policy.reset(np.ones(n, dtype=bool), seeds, instructions)
    actions = policy.act(obs)       # {key: (n, ...)} NumPy -> (n, action_dim) in [-1, 1] or `action_range`

`ModelPolicy` wraps any registered model with the observation spec (the keys that make up `state`, in order),
the normalization, and the contract of the environment that the data came from. All of it is saved in the
checkpoint. The same module is trained and acts, so that both sides process observations in the same way. A
model that predicts action chunks, or reads several observations, has an action queue for each env
(`action_queue`).

The action of an env does not depend on the other envs. Matrix products of different shapes are rounded
differently, and so the model always runs on batches of the same size, padded with zeros. A model that samples
draws the numbers of an env from the seed of its episode and the step in it, never from the global RNG state.

Trap: call `reset` at the start of an episode; otherwise the env executes the rest of the old action chunk.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simscaleai import seeding
from simscaleai.actions import ActionRange
from simscaleai.array_types import Array, BoolArray, EnvIds
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.guards import guarded, reason
from simscaleai.json_types import JsonDict
from simscaleai.models.action_queue import ActionQueue
from simscaleai.models.declarations import Declared, describe_model, obs_keys
from simscaleai.models.features import relative, state_width
from simscaleai.models.fitting import build_for
from simscaleai.models.inference import as_image, inference, resolve_device
from simscaleai.models.normalization import Normalizer
from simscaleai.models.reading import read_observations
from simscaleai.models.registry import rebuild_model
from simscaleai.observations import ObsSpec, flatten_state, unflatten_state
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.storage.find_checkpoint import find_checkpoint
from simscaleai.storage.pretrained import is_pretrained, load_pretrained, save_pretrained
from simscaleai.tensor_types import Batch, Tensors

BATCH_SIZE = 64  # envs that the model acts for in one call
# The same for models of images and of chunks, where padding costs a thousand times more per env.
SMALL_BATCH_SIZE = 8


class Predictor(Protocol):
    """The part of a model that acts."""

    def predict(self, obs: Tensors, **options: object) -> torch.Tensor:
        """Return actions (B, A) or chunks (B, L, A); options are "language" and "noise", if declared."""


class ModelPolicy(nn.Module):
    """`model` with everything it needs to act.

    Args:
      model: a module with `forward(batch)` and `predict(obs)`.
      spec: the observations that it was trained on; None accepts any.
      normalizer: statistics of "state", and of "actions" if the model declares to need them normalized; None
        leaves observations and actions as they are.
      contract: contract of the environment that the data came from, reduced to the keys of `spec`.
      relative_positions: give the model the features of `features.RelativePositions` as its state; the
        statistics of "state" are then those of the features.
      action_range: the box that actions lie in; [-1, 1] in every entry by default.

    Attributes:
      n_action_steps: number of actions of a chunk that are executed before the next prediction.
      temporal_ensemble: weight m of `action_queue`, to predict at every step and average; None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: ObsSpec | None = None,
        normalizer: Normalizer | None = None,
        contract: EnvContract | None = None,
        relative_positions: bool = False,
        action_range: ActionRange | None = None,
    ) -> None:
        super().__init__()
        assert normalizer is None or spec is not None
        self.model = model
        self.spec = spec
        self.normalizer = normalizer
        self._features = relative(spec, relative_positions)
        if contract is not None and spec is not None:
            # Evaluation must not demand observations that the model does not read.
            shapes = {k: v for k, v in contract.obs_shapes.items() if k in spec.shapes}
            dtypes = {k: v for k, v in contract.obs_dtypes.items() if k in spec.shapes}
            contract = replace(contract, obs_shapes=shapes, obs_dtypes=dtypes)
        self.contract = contract
        self.action_range = action_range
        self._instructions: list[str] | None = None  # n, from the latest `reset`
        self.declared = Declared.of(model)
        self.n_action_steps = self.declared.n_action_steps
        self.temporal_ensemble = self.declared.temporal_ensemble
        self._queue: ActionQueue | None = None

    def forward(self, batch: Batch) -> Tensors:
        """Return the model's outputs for a batch of raw observations (with "state") and raw actions.

        "predicted_actions" are raw actions; losses are computed on normalized ones.
        """
        batch = {**batch, "observations": self._inputs(batch["observations"])}
        if not self._normalizes_actions:
            return self.model(batch)
        assert self.normalizer is not None
        batch["actions"] = self.normalizer.normalize("actions", batch["actions"])
        outputs = self.model(batch)
        predicted = self._raw_actions(outputs["predicted_actions"])
        return {**outputs, "predicted_actions": predicted}

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Start new episodes; see `Policy.reset`.

        Raises:
          UserError: there is not one seed, or not one instruction, for each env.
        """
        # A single text has a length too, and would pass as one instruction per letter.
        for name, values in (("seeds", seeds), ("instructions", instructions)):
            if values is not None and (len(values) != len(mask) or isinstance(values, str)):
                raise UserError(
                    f"reset got {len(values)} {name} for {len(mask)} envs; give a list of one for each."
                )
        if instructions is not None:
            self._instructions = list(instructions)
        self._queue_of(len(mask)).reset(np.asarray(mask, dtype=bool), seeds)

    def rest(self, mask: BoolArray) -> None:
        """Spend no time on the envs in `mask` (n,), which have no episode, until they are reset."""
        self._queue_of(len(mask)).rest(mask)

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        """Return actions (n, action_dim) for raw observations {key: (n, ...)}.

        Actions are in [-1, 1], or in `action_range`. Arrays, tensors and lists are accepted; images are (n,
        H, W, 3) uint8. Entries that the policy does not read are ignored. A policy that was trained on one
        vector "state" takes that vector, or the vectors that it is concatenated from; see
        `read_observations`.

        Raises:
          UserError: an observation that the policy reads is missing, of another shape or not finite.
        """
        now = self.tensors(obs)
        queue = self._queue_of(len(next(iter(now.values()))))
        window = queue.window(
            now
        )  # {key: (n, H, ...)}, or (n, ...) for a model that reads one step
        env_ids = queue.due  # (k,) envs whose chunk is used up
        if len(env_ids) or queue.num_envs == 0:
            queue.push(env_ids, self._predict_chunks(window, queue, env_ids))
        return queue.pop(window)

    select_action = act  # its name in LeRobot

    def predict_action_chunk(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        """Return the chunks (n, L, action_dim) of all envs; the action queues do not change."""
        now = self.tensors(obs)
        queue = self._queue_of(len(next(iter(now.values()))))
        return self._predict_chunks(queue.window(now), queue, np.arange(queue.num_envs))

    def _queue_of(self, n: int) -> ActionQueue:
        """Return the queue of n envs; a new one if their number or the settings have changed."""
        wanted = (n, self.declared.n_obs_steps, self.n_action_steps, self.temporal_ensemble)
        if self._queue is None or self._queue.settings != wanted:
            self._queue = ActionQueue(*wanted)
        return self._queue

    def _predict_chunks(
        self, window: Mapping[str, torch.Tensor], queue: ActionQueue, env_ids: EnvIds
    ) -> NDArray[np.float32]:
        """Return the chunks (k, L, action_dim) of k envs, predicted in batches of a fixed size."""
        expensive = self.declared.action_horizon > 1 or set(window) != {"state"}
        size = SMALL_BATCH_SIZE if expensive else BATCH_SIZE  # B below
        device = next(self.parameters()).device
        batches = []
        with inference(self):
            # Without envs the model runs once all the same: its output has the shape (0, L, A).
            for start in range(0, max(len(env_ids), 1), size):
                chosen = env_ids[start : start + size]
                padded = {k: _padded(v[chosen], size).to(device) for k, v in window.items()}
                actions = self._guarded_predict(padded, queue, chosen, size)
                batches.append(actions[: len(chosen)].float().cpu().numpy())
        return np.concatenate(batches)  # (k, L, A)

    def chunks(self, obs: Tensors, **options: object) -> torch.Tensor:
        """Return chunks (B, L, A), in [-1, 1] or `action_range`, as a function of tensors alone.

        Args:
          obs: raw observations {"state": (B, d) float32, image: (B, H, W, 3) uint8}, or (B, H, ...).
          options: "language" and "noise", for a model that declares them.
        """
        inputs = self._inputs({k: as_image(v) for k, v in obs.items()})  # {key: (B, ...)}
        # PyTorch has no type for a module with further methods.
        actions = self._raw_actions(cast(Predictor, self.model).predict(inputs, **options)).float()
        actions = actions.unsqueeze(1) if actions.ndim == 2 else actions  # (B, L, A)
        if self.action_range is None:
            return actions.clamp(-1.0, 1.0)
        low, high = (torch.as_tensor(b, device=actions.device) for b in self.action_range.bounds())
        return torch.minimum(torch.maximum(actions, low.float()), high.float())

    def _guarded_predict(
        self, inputs: Tensors, queue: ActionQueue, env_ids: EnvIds, size: int
    ) -> torch.Tensor:
        """Return `_predict`; without a spec, a model's errors about its inputs become one UserError."""
        if self.spec is not None:  # the inputs have been checked
            return self._predict(inputs, queue, env_ids, size)
        try:
            return self._predict(inputs, queue, env_ids, size)
        except (RuntimeError, KeyError) as error:
            shapes = ", ".join(f"{key!r} {tuple(v.shape[1:])}" for key, v in inputs.items())
            raise UserError(
                f"The model cannot act on observations of {shapes} ({reason(error)}); give it those that it"
                " was made for."
            ) from error

    def _predict(
        self, inputs: Tensors, queue: ActionQueue, env_ids: EnvIds, size: int
    ) -> torch.Tensor:
        """Return chunks (size, L, A) for a batch of raw observations that begins with the envs `env_ids`."""
        options: dict[str, object] = {}
        if self.declared.uses_language:
            options["language"] = self._padded_instructions(queue, env_ids, size)
        if self.declared.noise_shape is not None:
            shape = self.declared.noise_shape
            drawn = [policy_noise(queue.seeds[i], int(queue.steps[i]), shape) for i in env_ids]
            noise = _padded(torch.from_numpy(np.stack(drawn)), size)  # (B, *noise_shape)
            options["noise"] = noise.to(next(iter(inputs.values())).device)
        return self.chunks(inputs, **options)

    def _padded_instructions(
        self, queue: ActionQueue, env_ids: EnvIds, size: int
    ) -> list[str] | None:
        """Return `size` instructions: those of some envs, then the first of them; None without any."""
        given = self._instructions
        if given is None:
            return None
        if len(given) != queue.num_envs:
            raise UserError(
                f"The policy was reset with {len(given)} instructions and acts for {queue.num_envs} envs;"
                " give reset(mask, seeds, instructions) one for each."
            )
        chosen = [given[i] for i in env_ids]
        # Any text will do: the actions of the padding are dropped.
        return chosen + chosen[:1] * (size - len(env_ids))

    def _inputs(self, obs: Mapping[str, torch.Tensor]) -> Tensors:
        """Return what the model reads: the normalized state, its vectors by key if needed, and images."""
        if self.normalizer is None or self.spec is None:
            return dict(obs)
        inputs = {k: obs[k] for k in self.spec.image_keys}
        if self.spec.state_keys:
            state = obs["state"] if self._features is None else self._features(obs["state"])
            inputs["state"] = self.normalizer.normalize("state", state)
            wanted = obs_keys(self.model)
            by_name = wanted is None or not set(wanted) <= inputs.keys()
            if by_name and self._features is None:
                inputs |= unflatten_state(inputs["state"], self.spec)
        return inputs

    @property
    def _normalizes_actions(self) -> bool:
        return self.normalizer is not None and "actions" in self.normalizer.modes

    def _raw_actions(self, actions: torch.Tensor) -> torch.Tensor:
        if not self._normalizes_actions:
            return actions
        assert self.normalizer is not None
        return self.normalizer.unnormalize("actions", actions)

    def tensors(self, obs: object) -> Tensors:
        """Return raw observations as {"state": (n, d) float32, image key: (n, H, W, 3) uint8}."""
        arrays = read_observations(obs, self.spec)
        spec = self.spec or ObsSpec.of(arrays, batched=True)
        tensors = {k: torch.from_numpy(np.ascontiguousarray(arrays[k])) for k in spec.image_keys}
        if spec.state_keys:
            # Numbers (n,) and matrices (n, h, w) are vectors of their entries; (n, d) each.
            flat = {k: v.reshape(len(v), math.prod(v.shape[1:])) for k, v in arrays.items()}
            state = flatten_state(flat, spec.state_keys)  # (n, sum of d)
            tensors["state"] = torch.from_numpy(state.astype(np.float32, copy=False))
        return tensors

    def fork(self) -> ModelPolicy:
        """Return a policy with the same weights, in the same memory, and action queues of its own."""
        other = copy.copy(self)  # shares the modules
        other._queue = other._instructions = None
        return other

    def description(self) -> JsonDict:
        """Return the plain data from which `from_checkpoint`, with the weights, rebuilds the policy."""
        spec = self.spec
        normalizer = self.normalizer
        shift = getattr(normalizer, "actions_mean", None)  # (A,); only if actions are normalized
        return {
            **describe_model(self.model),
            "wrapped": True,
            "obs_shapes": {k: list(v) for k, v in spec.shapes.items()} if spec else None,
            "obs_dtypes": dict(spec.dtypes) if spec else None,
            "relative_positions": self._features is not None,
            "normalized": normalizer is not None,
            "normalization": dict(normalizer.modes) if normalizer is not None else None,
            "action_dim": None if shift is None else len(shift),
            "action_range": self.action_range.to_dict() if self.action_range else None,
            "contract": self.contract.to_dict() if self.contract else None,
        }

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto") -> ModelPolicy:
        """Build the policy from a checkpoint alone, ready to act.

        Args:
          path: a checkpoint; a run's folder or name, for the newer one of its `final.pt` and `best.pt`; or a
            folder of `save_pretrained`. A checkpoint of a bare model, which was not trained as a
            `ModelPolicy`, acts on any observations, without normalization.
          device: "auto", "cpu", "cuda", "cuda:1", "mps".

        Raises:
          UserError: the file is not a checkpoint of a model, its model is not registered, or its weights do
            not fit the model.
        """
        target = resolve_device(device)
        path = find_checkpoint(path)
        if is_pretrained(path):
            return cls.from_pretrained(path, device)
        payload = load_checkpoint(path)
        policy = cls._from_description(payload.get("policy"), payload.get("weights"), str(path))
        return policy.to(target).eval()

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `config.json`, which other programs can read; return the folder.

        The files have everything that acting needs, and no state of the training.
        """
        if not describe_model(self.model):
            raise UserError("Only a model made by create_model can be saved; register its class.")
        return save_pretrained(folder, self.description(), dict(self.state_dict()))

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto") -> ModelPolicy:
        """Return the policy that `save_pretrained` wrote, ready to act; see `from_checkpoint` for errors."""
        target = resolve_device(device)
        about, weights = load_pretrained(folder)
        return cls._from_description(about, weights, str(folder)).to(target).eval()

    @classmethod
    def _from_description(cls, about: object, weights: object, source: str) -> ModelPolicy:
        """Return the policy that `description` describes, with weights from the file `source`."""
        if not isinstance(about, dict) or "model_name" not in about:
            raise UserError(f"The checkpoint {source!r} holds no model to act with.")

        def build() -> ModelPolicy:
            model = rebuild_model(about)
            spec = normalizer = contract = None
            is_relative = bool(about.get("relative_positions"))
            if about.get("obs_shapes") is not None:
                spec = ObsSpec.from_saved(about)
            if about.get("normalized"):
                if spec is None:
                    raise UserError(
                        f"The checkpoint {source!r} normalizes observations it does not name."
                    )
                # Statistics of the right widths to load the saved ones into.
                widths = {"state": state_width(spec, is_relative)} if spec.state_keys else {}
                if about.get("action_dim") is not None:
                    widths["actions"] = about["action_dim"]
                normalizer = Normalizer.blank(widths, about.get("normalization"))
            if about.get("contract") is not None:
                contract = EnvContract.from_dict(about["contract"])
            actions = action_range_of(about)
            return cls(model, spec, normalizer, contract, is_relative, actions)

        with guarded(f"The checkpoint {source!r}", "use another checkpoint of the run"):
            # Weights of a bare model are named without the prefix "model.".
            wrapped = bool(about.get("wrapped"))
            return build_for(weights, build, source, lambda p: p if wrapped else p.model)


def action_range_of(about: JsonDict) -> ActionRange | None:
    """Return the range of actions in a policy's description; None if it has none.

    Raises:
      ValueError, KeyError, TypeError: the description is damaged.
    """
    saved = about.get("action_range")
    if saved is None:
        return None
    actions = ActionRange.from_dict(saved)
    if about.get("action_dim") not in (None, actions.width):
        raise ValueError(f"a range of {actions.width} actions for {about['action_dim']}")
    return actions


def describe(module: nn.Module) -> JsonDict:
    """Return the description of a trained module that its checkpoint saves, for `from_checkpoint`."""
    return module.description() if isinstance(module, ModelPolicy) else describe_model(module)


def policy_noise(seed: int, step: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the normal numbers of a policy that samples, for one env.

    A function of the episode's seed and the step in it, so that an episode has the same actions in any batch.
    """
    return seeding.generator(seed, "policy", step).standard_normal(shape, dtype=np.float32)


def _padded(values: torch.Tensor, size: int) -> torch.Tensor:
    """Return (k, ...) as (size, ...), padded with zeros."""
    if len(values) == size:
        return values
    return torch.cat([values, values.new_zeros(size - len(values), *values.shape[1:])])
