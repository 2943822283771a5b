"""Registry of models.

    @register_model("mine")
    class Mine(nn.Module):
        def __init__(self, state_dim: int = 20, action_dim: int = 4) -> None: ...
        def forward(self, batch): ...   # -> {"loss": scalar, "predicted_actions": (B, A), ...}
        def predict(self, obs): ...     # {"state": (B, state_dim), ...} -> (B, A)

The trainer passes `state_dim`, `action_dim`, `image_size` and the like from the dataset to a constructor that
takes them. A model declares everything else by attributes: see `declarations`.

A class may have `presets = {"debug": {"hidden_dim": 64}, ...}`, named sets of arguments: "mine:debug" is then
a name wherever "mine" is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, get_type_hints

from simscaleai.convert import convert, hints_of, plain
from simscaleai.errors import UserError, did_you_mean, unknown_name
from simscaleai.json_types import JsonDict
from simscaleai.registry import Registry

if TYPE_CHECKING:
    from torch import nn

_models: Registry[type[nn.Module]] = Registry(
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
    """Return a decorator that gives a model class a name; UserError if another class has it."""

    def register(cls: _Class) -> _Class:
        _models.register(name, cls)
        return cls

    return register


def create_model(name: str, **kwargs: object) -> nn.Module:
    """Build a model; its attribute `registered` is (name, kwargs), from which it can be built again.

    `registered` has the values of a preset, not its name: the checkpoint stays valid if the preset changes.
    It leaves out the arguments in the model's `rebuild_with`, which a checkpoint records separately.

    Raises:
      UserError: no model has this name, or it takes no such argument; lists the known ones.
    """
    name, preset = _resolve(name)
    cls = _models.get(name)
    hints = hints_of(cls.__init__)
    # Values may come from YAML or a notebook; a checkpoint can store plain ones only.
    kwargs = {
        key: convert(plain(value), hints.get(key, object), f"{key} of the model {name!r}")
        for key, value in {**preset, **kwargs}.items()
    }
    known = model_arguments(name)
    for key in kwargs:
        if key not in known and not takes_anything(name):
            raise UserError(
                f"The model {name!r} takes no argument {key!r}; known: {', '.join(known)}."
                f"{did_you_mean(key, known)}"
            )
    # Imported here, for it imports torch, and commands that only list models should start quickly.
    from simscaleai.models.sizes import check_layers

    check_layers(name, kwargs)
    model = cls(**kwargs)
    rebuilt = getattr(model, "rebuild_with", {})
    # Set past nn.Module, whose stubs allow tensors and modules only.
    vars(model)["registered"] = (name, {k: v for k, v in kwargs.items() if k not in rebuilt})
    return model


def rebuild_model(about: JsonDict) -> nn.Module:
    """Return the model described by `declarations.describe_model`, with new weights."""
    name = about["model_name"]
    # The class's own `rebuild_with` is for checkpoints from before the model had any.
    kept = {**getattr(model_class(name), "rebuild_with", {}), **about.get("rebuild_with", {})}
    return create_model(name, **{**about["model_kwargs"], **kept})


def model_class(name: str) -> type[nn.Module]:
    """Return the class behind a name, imported if need be; UserError lists the known names."""
    return _models.get(_resolve(name)[0])


def model_presets(name: str) -> dict[str, JsonDict]:
    """Return {preset: {argument: value}} of a model."""
    return getattr(_models.get(name), "presets", {})


def model_arguments(name: str) -> JsonDict:
    """Return {argument: default} of a model's constructor, in order and without `**kwargs`.

    The default is `inspect.Parameter.empty` for an argument that has none.
    """
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    preset = _resolve(name)[1]
    return {p.name: preset.get(p.name, p.default) for p in _parameters(name) if p.kind in named}


def argument_types(name: str) -> dict[str, object]:
    """Return {argument: annotation} of a model's constructor; `object` for one without annotation."""
    hints = get_type_hints(model_class(name).__init__)
    return {key: hints.get(key, object) for key in model_arguments(name)}


def takes_anything(name: str) -> bool:
    """Return whether a model's constructor has `**kwargs`, so that no argument can be refused."""
    return any(p.kind is p.VAR_KEYWORD for p in _parameters(name))


def _resolve(name: str) -> tuple[str, JsonDict]:
    """Return model and preset arguments: ("vla", {...}) for "vla:debug", ("vla", {}) for "vla"."""
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
    """Return all names, sorted; imports no model."""
    return _models.names()


def added_models() -> dict[str, type[nn.Module]]:
    """Return {name: class} of the models that are not built in."""
    return _models.added()


class ModelRegistry:
    """`register_model`, `create_model` and `list_models` as static methods of one class."""

    register = staticmethod(register_model)
    create = staticmethod(create_model)
    list = staticmethod(list_models)
