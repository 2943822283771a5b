"""The tensors of a run: of its model, its optimizer and its moving average, by the name of a parameter.

    weights        what the model acts with: of a run with a moving average, the average
    raw_weights    of such a run, the parameters that are trained
    optimizer      {parameter: {slot: tensor}}, for AdamW {"step": ..., "exp_avg": ..., "exp_avg_sq": ...}

Under FSDP2 each process has a shard of each. Put together they are the same for any number of processes, and
so a run may be resumed with another number of them, or with another strategy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from simscaleai.storage.sharded_checkpoint import ShardedCheckpoint, unflatten
from simscaleai.training.compatibility import Shapes, shapes_in
from simscaleai.training.ema import Ema
from simscaleai.training.parallel_model import like

KINDS = ("weights", "raw_weights", "optimizer")

Tree = dict[str, Any]


class TrainingState:
    """The state of a model that an optimizer trains.

    Args:
      slots: {slot: shape} of what the optimizer keeps for a parameter, None for the parameter's own shape;
        see `optimizers.slot_shapes`.
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
        named = model.named_parameters(remove_duplicate=False)  # two layers may share one
        self._numbers = {name: numbers[id(p)] for name, p in named if id(p) in numbers}

    def tensors(self) -> Tree:
        """Return {"weights", "optimizer"}, with an average "raw_weights" too; not copies."""
        weights = dict(self.model.state_dict())
        tree: Tree = {"weights": weights, "optimizer": {}}
        if self.ema is not None:
            tree["raw_weights"] = {name: weights[name] for name in self._numbers}
            weights |= {name: self.ema.averages[i] for name, i in self._numbers.items()}
        for name, i in self._numbers.items():
            slots = self.optimizer.state.get(self.parameters[i], {})
            tree["optimizer"][name] = {k: slots[k] for k in self.slots if k in slots}
        return tree

    def shapes(self) -> Shapes:
        """Return the shape of every tensor that there may be, by its path in `tensors`."""
        weights = dict(shapes_in(self.model.state_dict(), ("weights",)))
        shapes = dict(weights)
        for name in self._numbers:
            own = weights["weights", name]
            shapes["raw_weights", name] = own
            for slot, shape in self.slots.items():
                shapes["optimizer", name, slot] = own if shape is None else shape
        return shapes

    @torch.no_grad()
    def load(self, tree: Tree) -> None:
        """Copy tensors, whole or sharded as the model's, of the shapes of `shapes`."""
        own = self.model.state_dict()
        self.model.load_state_dict({k: like(v, own[k]) for k, v in tree["weights"].items()})
        if self.ema is not None:  # if the run had none, the average begins here
            self.ema.averages = [p.detach().clone() for p in self.parameters]
        for name, value in tree.get("raw_weights", {}).items():
            own[name].copy_(like(value, own[name]))
        state = {}
        for name, i in self._numbers.items():
            slots = tree["optimizer"].get(name, {})
            if slots:
                state[i] = {
                    k: (like(v, self.parameters[i]) if self.slots[k] is None else v).clone()
                    for k, v in slots.items()
                }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def load_shards(self, folder: ShardedCheckpoint) -> None:
        """Load as `load` does, from a folder of which each process reads its shards."""
        from simscaleai.storage.dcp import read_into

        own = self.model.state_dict()
        targets = {}
        for path, entry in folder.entries.items():
            name = path.split("/")[1]
            if entry.shape == tuple(own[name].shape):
                targets[path] = torch.zeros_like(own[name], dtype=entry.dtype)
            else:
                targets[path] = torch.zeros(entry.shape, dtype=entry.dtype)
        read_into(folder, targets)
        self.load(unflatten(targets))
