"""Models by name.

    @register_model("mine")
    class Mine(nn.Module):
        def __init__(self, state_dim: int = 20, action_dim: int = 4) -> None: ...
        def forward(self, batch): ...   # -> {"loss": scalar, "predicted_actions": (B, A), ...}
        def predict(self, obs): ...     # {"state": (B, state_dim), ...} -> (B, A)

A constructor that takes `state_dim`, `action_dim`, `image_size` or the like is given those of the
dataset. What else a model declares, it does by attributes: see `declarations`.

A class may have `presets = {"debug": {"hidden_dim": 64}, ...}`, its own defaults by name: "mine:debug" is a
name wherever "mine" is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from simscaleai.convert import convert, hints_of, plain
from simscaleai.errors import UserError, did_you_mean, unknown_name
from simscaleai.models.sizes import check_layers
from simscaleai.registry import Registry

if TYPE_CHECKING:
    from torch import nn

_models = Registry(
    "model",
    {
        "act": "simscaleai.models.act:ActionChunkingTransformer",
        "bc": "simscaleai.models.bc:BehaviorCloning",
        "diffusion": "simscaleai.models.diffusion:DiffusionPolicy",
        "flow": "simscaleai.models.flow:FlowPolicy",
        "mlp": "simscaleai.models.mlp:MLPPolicy",
        "vla": "simscaleai.models.vla:VisionLanguageAction",
    },
)
_Class = TypeVar("_Class", bound=type)


def register_model(name: str) -> Callable[[_Class], _Class]:
    """Decorator that gives a model class a name; UserError if another class has it."""

    def register(cls: _Class) -> _Class:
        _models.register(name, cls)
        return cls

    return register


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a model; it remembers `(name, kwargs)` as `registered`, so that it can be built again.

    Those of a preset are remembered by value: a checkpoint outlives it. Those that the model has in its
    `rebuild_with` are not: it tells them itself.

    Raises:
      UserError: no model has this name, or it takes no such argument; lists the known ones.
    """
    name, preset = _resolve(name)
    cls = _models.get(name)
    hints = hints_of(cls.__init__)
    kwargs = {
        key: convert(plain(value), hints.get(key, Any), f"{key} of the model {name!r}")
        for key, value in {**preset, **kwargs}.items()
    }
    known = model_arguments(name)
    for key in kwargs:
        if key not in known and not takes_anything(name):
            raise UserError(
                f"The model {name!r} takes no argument {key!r}; known: {', '.join(known)}."
                f"{did_you_mean(key, known)}"
            )
    check_layers(name, kwargs)
    model = cls(**kwargs)
    rebuilt = getattr(model, "rebuild_with", {})
    model.registered = (name, {k: v for k, v in kwargs.items() if k not in rebuilt})
    return model


def rebuild_model(about: dict[str, Any]) -> nn.Module:
    """The model that `declarations.describe_model` tells of, with new weights."""
    name = about["model_name"]
    kept = {**getattr(model_class(name), "rebuild_with", {}), **about.get("rebuild_with", {})}
    return create_model(name, **{**about["model_kwargs"], **kept})


def model_class(name: str) -> type[nn.Module]:
    """The class behind a name, imported if need be; UserError lists the known names."""
    return _models.get(_resolve(name)[0])


def model_presets(name: str) -> dict[str, dict[str, Any]]:
    """{preset: {argument: value}} of a model."""
    return getattr(_models.get(name), "presets", {})


def model_arguments(name: str) -> dict[str, Any]:
    """{argument: default} of a model's constructor, in order; no `**kwargs`."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    preset = _resolve(name)[1]
    return {p.name: preset.get(p.name, p.default) for p in _parameters(name) if p.kind in named}


def argument_types(name: str) -> dict[str, Any]:
    """{argument: annotation} of a model's constructor; `Any` where it has none."""
    hints = get_type_hints(model_class(name).__init__)
    return {key: hints.get(key, Any) for key in model_arguments(name)}


def takes_anything(name: str) -> bool:
    """Whether a model's constructor has `**kwargs`."""
    return any(p.kind is p.VAR_KEYWORD for p in _parameters(name))


def _resolve(name: str) -> tuple[str, dict[str, Any]]:
    """ "vla:debug" -> "vla" and the arguments of its preset; no arguments for a name without a colon."""
    base, colon, preset = name.partition(":")
    if not colon:
        return name, {}
    presets = model_presets(base)
    if preset not in presets:
        raise unknown_name(f"preset of model {base!r}:", preset, presets)
    return base, presets[preset]


def _parameters(name: str) -> list[inspect.Parameter]:
    return list(inspect.signature(model_class(name)).parameters.values())


def list_models() -> list[str]:
    """All names, sorted; imports no model."""
    return _models.names()


def added_models() -> dict[str, Any]:
    """{name: class} of models that are not built in."""
    return _models.added()


class ModelRegistry:
    """The same three functions under one name."""

    register = staticmethod(register_model)
    create = staticmethod(create_model)
    list = staticmethod(list_models)
