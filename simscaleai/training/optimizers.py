"""Registry of optimizers.

    @register_optimizer("adagrad")
    def adagrad(groups, lr, weight_decay, **options):
        return torch.optim.Adagrad(groups, lr=lr, weight_decay=weight_decay, **options)

An optimizer is any `torch.optim.Optimizer` whose state consists of tensors, each a single number or of the
shape of its parameter. It is saved, resumed and sharded by FSDP2 as AdamW is.

A model may have a method `parameter_groups()` that returns groups as PyTorch's optimizers take them: a list
of {"params": [...], "lr": ..., "weight_decay": ...}. The settings apply to options that a group leaves out,
and to parameters in no group. The schedule scales the learning rate of every group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.registry import Registry
from simscaleai.training.component_settings import OptimizerSettings

Group = dict[
    str, Any
]  # "params", and options of the optimizer for them; PyTorch has no narrower type
Factory = Callable[..., torch.optim.Optimizer]  # (groups, lr, weight_decay, **options)

_optimizers: Registry[Factory] = Registry(
    "optimizer", {name: f"simscaleai.training.optimizers:{name}" for name in ("adamw", "sgd")}
)


def register_optimizer(name: str) -> Callable[[Factory], Factory]:
    """Return a decorator that gives a function or class a name; UserError if another one has it."""

    def register(factory: Factory) -> Factory:
        _optimizers.register(name, factory)
        return factory

    return register


def list_optimizers() -> list[str]:
    """Return all names, sorted."""
    return _optimizers.names()


def adamw(groups: list[Group], lr: float, weight_decay: float, **options: Any) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019)."""
    device = groups[0]["params"][0].device
    # A fused step reads and writes memory once; a step of separate operations does so about ten times.
    options = {"fused": device.type in ("cpu", "cuda"), **options}
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, **options)


def sgd(groups: list[Group], lr: float, weight_decay: float, **options: Any) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum 0.9."""
    options = {"momentum": 0.9, **options}
    return torch.optim.SGD(groups, lr=lr, weight_decay=weight_decay, **options)


def make_optimizer(settings: OptimizerSettings, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of all parameters of `model` that require a gradient.

    Raises:
      UserError: no optimizer has this name, it does not take these options, or the model's groups overlap.
    """
    return _create(settings, parameter_groups(model))


def _create(settings: OptimizerSettings, groups: list[Group]) -> torch.optim.Optimizer:
    factory = _optimizers.get(settings.name)
    try:
        return factory(groups, settings.lr, settings.weight_decay, **settings.options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The optimizer {settings.name!r} does not take optimizer.options {settings.options}: {error}."
        ) from error


def parameter_groups(model: nn.Module) -> list[Group]:
    """Return the groups that the model declares, and one group of all other trained parameters."""
    trained = [p for p in model.parameters() if p.requires_grad]
    inner = getattr(model, "model", None)  # of a ModelPolicy
    declared = getattr(model, "parameter_groups", None) or getattr(inner, "parameter_groups", None)
    if declared is None:
        return [{"params": trained}]
    # By identity: tensors compare elementwise. What is left at the end is in no group.
    left = {id(p) for p in trained}
    groups: list[Group] = []
    for group in declared():
        parameters = [p for p in group["params"] if p.requires_grad]
        if any(id(p) not in left for p in parameters):
            raise UserError(
                "The model's parameter_groups() names a parameter twice, or one that is not the model's;"
                " name each once."
            )
        left -= {id(p) for p in parameters}
        groups += [{**group, "params": parameters}] if parameters else []
    rest = [p for p in trained if id(p) in left]
    return [*groups, {"params": rest}] if rest else groups


def slot_shapes(settings: OptimizerSettings) -> dict[str, tuple[int, ...] | None]:
    """Return {name: shape} of the tensors that the optimizer keeps for a parameter.

    The shape is None for tensors of the parameter's own shape.
    """
    # An optimizer has no state before its first step, and so one is made with a small parameter.
    shape = (2, 3)
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.zeros(shape)
    optimizer = _create(settings, [{"params": [parameter]}])
    optimizer.step()
    tensors = {k: v for k, v in optimizer.state[parameter].items() if isinstance(v, torch.Tensor)}
    return {k: None if v.shape == shape else tuple(v.shape) for k, v in tensors.items()}
