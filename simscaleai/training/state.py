"""The tensors of a run: of its model, its optimizer and its moving average, by the name of a parameter.

    weights        what the model acts with: of a run with a moving average, the average
    raw_weights    of such a run, the parameters that are trained
    optimizer      {parameter: {"step": ..., "exp_avg": ..., "exp_avg_sq": ...}}

Under FSDP2 each process has a part of each. Put together they are the same for any number of processes, and
so a run may go on with another number, or shared in another way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from simscaleai.storage.sharded_checkpoint import ShardedCheckpoint, unflatten
from simscaleai.training.ema import Ema
from simscaleai.training.fit import Shapes, shapes_in
from simscaleai.training.parallel_model import like

KINDS = ("weights", "raw_weights", "optimizer")
_SLOTS = ("exp_avg", "exp_avg_sq")

Tree = dict[str, Any]


class TrainingState:
    """Of a model that an AdamW of one group trains."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None = None
    ) -> None:
        self.model, self.optimizer, self.ema = model, optimizer, ema
        self.parameters = optimizer.param_groups[0]["params"]
        numbers = {id(p): i for i, p in enumerate(self.parameters)}
        named = model.named_parameters(remove_duplicate=False)  # two layers may share one
        self._numbers = {name: numbers[id(p)] for name, p in named if id(p) in numbers}

    def tensors(self) -> Tree:
        """{"weights", "optimizer"}, with an average "raw_weights" too: what is in use, not copies."""
        weights = dict(self.model.state_dict())
        tree: Tree = {"weights": weights, "optimizer": {}}
        if self.ema is not None:
            tree["raw_weights"] = {name: weights[name] for name in self._numbers}
            weights |= {name: self.ema.averages[i] for name, i in self._numbers.items()}
        for name, i in self._numbers.items():
            tree["optimizer"][name] = dict(self.optimizer.state.get(self.parameters[i], {}))
        return tree

    def shapes(self) -> Shapes:
        """The shape of every tensor that there may be, by its path in `tensors`."""
        weights = dict(shapes_in(self.model.state_dict(), ("weights",)))
        shapes = dict(weights)
        for name in self._numbers:
            shape = weights["weights", name]
            shapes["raw_weights", name] = shape
            shapes["optimizer", name, "step"] = ()
            shapes |= {("optimizer", name, slot): shape for slot in _SLOTS}
        return shapes

    @torch.no_grad()
    def load(self, tree: Tree) -> None:
        """Take over copies of tensors, whole or distributed as the model's, of the shapes of `shapes`."""
        own = self.model.state_dict()
        self.model.load_state_dict({k: like(v, own[k]) for k, v in tree["weights"].items()})
        if self.ema is not None:  # of a run that had none, the average begins here
            self.ema.averages = [p.detach().clone() for p in self.parameters]
        for name, value in tree.get("raw_weights", {}).items():
            own[name].copy_(like(value, own[name]))
        state = {}
        for name, i in self._numbers.items():
            slots = tree["optimizer"].get(name, {})
            if slots:
                state[i] = {
                    k: (like(v, self.parameters[i]) if k in _SLOTS else v).clone()
                    for k, v in slots.items()
                }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def load_parts(self, folder: ShardedCheckpoint) -> None:
        """As `load`, from a folder of which each process reads its parts."""
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
