"""A model as a policy: raw observations in, actions out.

    policy = ModelPolicy.from_checkpoint("checkpoints/final.pt")
    policy.reset(np.ones(n, dtype=bool), seeds, instructions)
    actions = policy.act(obs)       # {key: (n, ...)} NumPy -> (n, action_dim) in [-1, 1] or `action_range`

Around any registered model it puts the observation spec (which keys make up `state`, in which order),
the normalization, and the contract of the environment that the data came from; all of it is saved in
the checkpoint. It is also the module that is trained, and so the two sides cannot differ. A model that plans
several actions at once, or looks at several observations, has an action queue for each env (`action_queue`).

The action of a row does not depend on the other rows: the model always sees the same number of rows,
padded with zeros, because matrix products of different shapes are rounded differently. A model that samples
draws a row's numbers from the seed of its episode and the step in it, and never from the global RNG state.

Trap: a new episode begins with `reset`, or the row goes on with what it planned in the old one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simscaleai import seeding
from simscaleai.actions import ActionRange
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.guards import guarded, reason
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

ROWS = 64  # rows the model sees at once
FEW_ROWS = 8  # the same for models of images and of chunks, where a row costs a thousand times more


class ModelPolicy(nn.Module):
    """`model` with everything it needs to act.

    Args:
      model: has `forward(batch)` and `predict(obs)`.
      spec: the observations that it was made for; without one, it takes whatever it is given.
      normalizer: statistics of "state", and of "actions" if the model wants those normalized; without one,
        observations go in and actions come out as they are.
      contract: the environment that the data came from; kept for the keys of `spec`.
      relative_positions: show the model its state as `features.RelativePositions` has it; the statistics of
        "state" are then those of the features.
      action_range: the box that actions lie in; [-1, 1] in every entry by default.

    Attributes:
      n_action_steps: how many actions of a plan are executed before the next plan.
      temporal_ensemble: weight m of `action_queue`, to plan at every step and average; None for none.
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
        self.model: Any = model
        self.spec = spec
        self.normalizer = normalizer
        self._features = relative(spec, relative_positions)
        if contract is not None and spec is not None:
            shapes = {k: v for k, v in contract.obs_shapes.items() if k in spec.shapes}
            dtypes = {k: v for k, v in contract.obs_dtypes.items() if k in spec.shapes}
            contract = replace(contract, obs_shapes=shapes, obs_dtypes=dtypes)
        self.contract = contract
        self.action_range = action_range
        self._instructions: list[str] | None = None  # n, as of the newest `reset`
        self.declared = Declared.of(model)
        self.n_action_steps = self.declared.n_action_steps
        self.temporal_ensemble = self.declared.temporal_ensemble
        self._queue: ActionQueue | None = None

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The model's outputs for a batch of raw observations (with "state") and actions.

        "predicted_actions" are raw actions; losses are those of normalized ones.
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
        mask: NDArray[np.bool_],
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Begin episodes; see `Policy.reset`.

        Raises:
          UserError: seeds or instructions are not one for each env.
        """
        for name, values in (("seeds", seeds), ("instructions", instructions)):
            if values is not None and (len(values) != len(mask) or isinstance(values, str)):
                raise UserError(
                    f"reset got {len(values)} {name} for {len(mask)} envs; give a list of one for each."
                )
        if instructions is not None:
            self._instructions = list(instructions)
        self._queue_of(len(mask)).reset(np.asarray(mask, dtype=bool), seeds)

    def act(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Actions (n, action_dim) for raw observations {key: (n, ...)}, in [-1, 1] or in `action_range`.

        Arrays, tensors and lists will do; images are (n, H, W, 3) uint8. Entries that the policy does not use
        may be there too. A policy made for one vector "state" also takes that vector itself, or what it is
        made of: all vectors in the order of their names.

        Raises:
          UserError: an observation that the policy uses is missing, of another shape or not finite.
        """
        now = self._tensors(obs)
        queue = self._queue_of(len(next(iter(now.values()))))
        window = queue.window(now)
        rows = queue.due
        if len(rows) or queue.num_envs == 0:
            queue.push(rows, self._plan(window, queue, rows))
        return queue.pop(window)

    select_action = act  # its name in other libraries

    def predict_action_chunk(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The plans (n, L, action_dim) that all rows would make now; nothing is remembered."""
        now = self._tensors(obs)
        queue = self._queue_of(len(next(iter(now.values()))))
        return self._plan(queue.window(now), queue, np.arange(queue.num_envs))

    def _queue_of(self, n: int) -> ActionQueue:
        """That of n rows: a new one where there was one of another number, or for other settings."""
        wanted = (n, self.declared.n_obs_steps, self.n_action_steps, self.temporal_ensemble)
        if self._queue is None or self._queue.settings != wanted:
            self._queue = ActionQueue(*wanted)
        return self._queue

    def _plan(
        self, window: Mapping[str, torch.Tensor], queue: ActionQueue, rows: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """Plans (k, L, action_dim) of some rows, an equal number at a time."""
        few = self.declared.action_horizon > 1 or set(window) != {"state"}
        size = FEW_ROWS if few else ROWS
        device = next(self.parameters()).device
        plans = []
        with inference(self):
            for start in range(0, max(len(rows), 1), size):  # no rows have a plan of no rows
                chosen = rows[start : start + size]
                padded = {k: _padded(v[chosen], size).to(device) for k, v in window.items()}
                inputs = self._inputs({k: as_image(v) for k, v in padded.items()})
                actions = self._raw_actions(self._predicted(inputs, queue, chosen, size))
                plans.append(actions[: len(chosen)].float().cpu().numpy())
        chunks = np.concatenate(plans)
        chunks = chunks[:, None] if chunks.ndim == 2 else chunks
        low, high = (-1.0, 1.0) if self.action_range is None else self.action_range.bounds()
        return np.clip(chunks, low, high, dtype=np.float32)

    def _predicted(
        self,
        inputs: dict[str, torch.Tensor],
        queue: ActionQueue,
        rows: NDArray[np.intp],
        size: int,
    ) -> torch.Tensor:
        """As `_predict`; what a model says to observations that nobody has checked is one sentence."""
        if self.spec is not None:
            return self._predict(inputs, queue, rows, size)
        try:
            return self._predict(inputs, queue, rows, size)
        except (RuntimeError, KeyError) as error:
            shapes = ", ".join(f"{key!r} {tuple(v.shape[1:])}" for key, v in inputs.items())
            raise UserError(
                f"The model cannot act on observations of {shapes} ({reason(error)}); give it those that it"
                " was made for."
            ) from error

    def _predict(
        self,
        inputs: dict[str, torch.Tensor],
        queue: ActionQueue,
        rows: NDArray[np.intp],
        size: int,
    ) -> torch.Tensor:
        """What the model gives for `size` rows, of which the first are `rows` of the queue."""
        options: dict[str, Any] = {}
        if self.declared.uses_language:
            options["language"] = self._padded_instructions(queue, rows, size)
        if self.declared.noise_shape is not None:
            drawn = [
                seeding.generator(queue.seeds[i], "policy", int(queue.steps[i])).standard_normal(
                    self.declared.noise_shape, dtype=np.float32
                )
                for i in rows
            ]
            noise = _padded(torch.from_numpy(np.stack(drawn)), size)
            options["noise"] = noise.to(next(self.parameters()).device)
        return self.model.predict(inputs, **options)

    def _padded_instructions(
        self, queue: ActionQueue, rows: NDArray[np.intp], size: int
    ) -> list[str] | None:
        """The instructions of some envs, and the first of them again up to `size`; None without any."""
        given = self._instructions
        if given is None:
            return None
        if len(given) != queue.num_envs:
            raise UserError(
                f"The policy was reset with {len(given)} instructions and acts for {queue.num_envs} envs;"
                " give reset(mask, seeds, instructions) one for each."
            )
        chosen = [given[i] for i in rows]
        return chosen + chosen[:1] * (size - len(rows))

    def _inputs(self, obs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the model reads: a normalized state, its parts by name, and images as they are."""
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

    def _tensors(self, obs: Any) -> dict[str, torch.Tensor]:
        """{"state": (n, d) float32, image key: (n, H, W, 3) uint8} out of raw observations."""
        arrays = read_observations(obs, self.spec)
        spec = self.spec or ObsSpec.of(arrays, batched=True)
        tensors = {k: torch.from_numpy(np.ascontiguousarray(arrays[k])) for k in spec.image_keys}
        if spec.state_keys:
            # numbers (n,) and matrices (n, h, w) count by their entries
            flat = {k: v.reshape(len(v), math.prod(v.shape[1:])) for k, v in arrays.items()}
            state = flatten_state(flat, spec.state_keys)
            tensors["state"] = torch.from_numpy(state.astype(np.float32, copy=False))
        return tensors

    def description(self) -> dict[str, Any]:
        """Plain data from which, together with the weights, `from_checkpoint` builds this again."""
        spec = self.spec
        normalizer = self.normalizer
        shift = getattr(normalizer, "actions_mean", None)
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
        """Build the policy from the checkpoint alone, ready to act.

        A checkpoint of a bare model (not trained as a `ModelPolicy`) works too: it acts on all
        observations there are, without normalization. And so does a folder of `save_pretrained`. Of a run's
        folder, or its name, it is the newer one of `final.pt` and `best.pt`.

        Raises:
          UserError: the file is not a checkpoint of a model, its model is not registered here, or
            its weights do not fit.
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

        What it takes to act is there, and nothing of the training.
        """
        if not describe_model(self.model):
            raise UserError("Only a model made by create_model can be saved; register its class.")
        return save_pretrained(folder, self.description(), dict(self.state_dict()))

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto") -> ModelPolicy:
        """The policy that `save_pretrained` wrote, ready to act; errors as of `from_checkpoint`."""
        target = resolve_device(device)
        about, weights = load_pretrained(folder)
        return cls._from_description(about, weights, str(folder)).to(target).eval()

    @classmethod
    def _from_description(cls, about: Any, weights: Any, source: str) -> ModelPolicy:
        if not isinstance(about, dict) or "model_name" not in about:
            raise UserError(f"The checkpoint {source!r} holds no model to act with.")

        def build() -> ModelPolicy:
            model = rebuild_model(about)
            spec = normalizer = contract = None
            from_hand = bool(about.get("relative_positions"))
            if about.get("obs_shapes") is not None:
                spec = ObsSpec.from_saved(about)
            if about.get("normalized"):
                if spec is None:
                    raise UserError(
                        f"The checkpoint {source!r} normalizes observations it does not name."
                    )
                widths = {"state": state_width(spec, from_hand)} if spec.state_keys else {}
                if about.get("action_dim") is not None:
                    widths["actions"] = about["action_dim"]
                normalizer = Normalizer.blank(widths, about.get("normalization"))
            if about.get("contract") is not None:
                contract = EnvContract.from_dict(about["contract"])
            actions = action_range_of(about)
            return cls(model, spec, normalizer, contract, from_hand, actions)

        with guarded(f"The checkpoint {source!r}", "use another checkpoint of the run"):
            wrapped = bool(about.get("wrapped"))
            return build_for(weights, build, source, lambda p: p if wrapped else p.model)


def action_range_of(about: Mapping[str, Any]) -> ActionRange | None:
    """The range of actions that a description of a policy tells of.

    Raises:
      ValueError, KeyError, TypeError: it tells of one that is damaged.
    """
    saved = about.get("action_range")
    if saved is None:
        return None
    actions = ActionRange.from_dict(saved)
    if about.get("action_dim") not in (None, actions.width):
        raise ValueError(f"a range of {actions.width} actions for {about['action_dim']}")
    return actions


def describe(module: nn.Module) -> dict[str, Any]:
    """What a checkpoint says about the module it was trained as, for `from_checkpoint`."""
    return module.description() if isinstance(module, ModelPolicy) else describe_model(module)


def _padded(rows: torch.Tensor, size: int) -> torch.Tensor:
    if len(rows) == size:
        return rows
    return torch.cat([rows, rows.new_zeros(size - len(rows), *rows.shape[1:])])
