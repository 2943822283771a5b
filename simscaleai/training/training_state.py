"""Tensors of a run's model, optimizer and moving average, by the names of the parameters.

    weights        weights to act with: the moving average, if the run has one, else the trained parameters
    raw_weights    the trained parameters of a run with a moving average
    optimizer      {parameter: {slot: tensor}}, for AdamW {"step": ..., "exp_avg": ..., "exp_avg_sq": ...}

Under FSDP2 each process has a shard of each tensor. The full tensors do not depend on the number of
processes, so that a run may be resumed with another number of them, or with another strategy.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from simscaleai.storage.sharded_checkpoint import ShardedCheckpoint, unflatten
from simscaleai.tensor_types import StateDict, TensorTree
from simscaleai.training.compatibility import Shapes, shapes_in
from simscaleai.training.ema import Ema
from simscaleai.training.parallel_model import shard_like

KINDS = ("weights", "raw_weights", "optimizer")


class TrainingState:
    """State of a model that an optimizer trains.

    Args:
      model: the model.
      optimizer: its optimizer.
      slots: {slot: shape} of the tensors that the optimizer keeps for a parameter, None for the parameter's
        own shape; see `optimizers.slot_shapes`.
      ema: the moving average, if the run has one.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        slots: Mapping[str, tuple[int, ...] | None],
        ema: Ema | None = None,
    ) -> None:
        self.model, self.optimizer, self.slots, self.ema = model, optimizer, slots, ema
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        numbers = {id(p): i for i, p in enumerate(self.parameters)}
        # All names of a parameter: two layers may share one, as tied embeddings do.
        named = model.named_parameters(remove_duplicate=False)
        self._numbers = {name: numbers[id(p)] for name, p in named if id(p) in numbers}

    def tensors(self) -> TensorTree:
        """Return "weights" and "optimizer", and "raw_weights" with a moving average; not copies."""
        weights: TensorTree = dict(self.model.state_dict())
        optimizer: TensorTree = {}
        state: TensorTree = {"weights": weights, "optimizer": optimizer}
        if self.ema is not None:
            state["raw_weights"] = {name: weights[name] for name in self._numbers}
            weights |= {name: self.ema.averages[i] for name, i in self._numbers.items()}
        for name, i in self._numbers.items():
            # PyTorch creates the slots of a parameter at its first step with a gradient.
            slots = self.optimizer.state.get(self.parameters[i], {})
            optimizer[name] = {k: slots[k] for k in self.slots if k in slots}
        return state

    def shapes(self) -> Shapes:
        """Return the shape of every tensor that `tensors` may have, by its path."""
        weights = dict(shapes_in(self.model.state_dict(), ("weights",)))
        shapes = dict(weights)
        for name in self._numbers:
            own = weights["weights", name]
            shapes["raw_weights", name] = own
            for slot, shape in self.slots.items():
                shapes["optimizer", name, slot] = own if shape is None else shape
        return shapes

    @torch.no_grad()
    def load(self, saved: StateDict) -> None:
        """Copy the tensors of a checkpoint, whole or sharded as the model's; their shapes must fit."""
        own = self.model.state_dict()
        # "weights" are the averages of a run that has them; the trained parameters then overwrite them below.
        self.model.load_state_dict({k: shard_like(v, own[k]) for k, v in saved["weights"].items()})
        if self.ema is not None:  # if the saved run had no average, it starts from these weights
            self.ema.averages = [p.detach().clone() for p in self.parameters]
        for name, value in saved.get("raw_weights", {}).items():
            own[name].copy_(shard_like(value, own[name]))
        state = {}
        for name, i in self._numbers.items():
            slots = saved["optimizer"].get(name, {})
            if slots:
                # Slots of the parameter's shape are sharded as the parameter; single numbers are not.
                state[i] = {
                    k: (shard_like(v, self.parameters[i]) if self.slots[k] is None else v).clone()
                    for k, v in slots.items()
                }
        # The groups are this run's own: learning rates come from the settings.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def load_shards(self, folder: ShardedCheckpoint) -> None:
        """Load as `load` does, from a folder of which each process reads only its own shards."""
        from simscaleai.storage.dcp import read_into  # needs torch.distributed, as few runs do

        own = self.model.state_dict()
        # Zeros of the model's own sharding: `read_into` fills the local part of each.
        targets = {}
        for path, entry in folder.entries.items():
            name = path.split("/")[1]
            if entry.shape == tuple(own[name].shape):
                targets[path] = torch.zeros_like(own[name], dtype=entry.dtype)
            else:
                targets[path] = torch.zeros(entry.shape, dtype=entry.dtype)
        read_into(folder, targets)
        self.load(unflatten(targets))
