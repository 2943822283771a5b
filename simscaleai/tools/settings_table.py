"""Settings of a command with their values and meanings, as `simscale config` shows them.

    for setting in list_settings(SimConfig()):
        print(setting.name, setting.value, setting.meaning)

The meanings are those in the docstrings of the dataclasses, so that they are written once.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import NamedTuple

from simscaleai.errors import unknown_name
from simscaleai.recipes import KINDS, find_config

_SECTION = re.compile(r"^(?:Attributes|Args):$(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"^  (\w[\w, ]*): (.*?)(?=^  \w|\Z)", re.MULTILINE | re.DOTALL)


class Setting(NamedTuple):
    """A setting by its dotted name."""

    name: str
    value: str  # as on the command line
    meaning: str


def find_settings(kind: str, config: str | None, overrides: list[str]) -> object:
    """Return the settings with which a command would run.

    Args:
      kind: "train", "rl" or "env".
      config: settings file or recipe; None for none. Environments have none.
      overrides: texts `key=value`.

    Raises:
      UserError: another kind, or a setting is wrong.
    """
    if kind == "env":
        from simscaleai.config import load_config
        from simscaleai.sim.base_env import SimConfig

        return load_config(SimConfig, config, overrides)
    path = None if config is None or kind not in KINDS else find_config(config, kind)
    if kind == "rl":
        from simscaleai.rl.settings import load_rl

        return load_rl(path, overrides).complete()
    if kind == "train":
        from simscaleai.training.run_config import load_run

        return load_run(path, overrides)
    raise unknown_name("kind of settings", kind, (*KINDS, "env"))


def list_settings(config: object, prefix: str = "") -> list[Setting]:
    """Return every setting of a dataclass and of those in it, in the order of the fields."""
    return list(_settings(config, prefix))


def _settings(config: object, prefix: str) -> Iterator[Setting]:
    assert is_dataclass(config)
    meanings = _meanings(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        name = prefix + field.name
        if is_dataclass(value):
            yield from _settings(value, f"{name}.")
        elif (
            isinstance(value, Mapping) and "name" in value
        ):  # a model or an agent with its settings
            yield from _chosen(name, value, meanings.get(field.name, ""))
        else:
            yield Setting(name, _text(value), meanings.get(field.name, ""))


def _chosen(group: str, given: Mapping[str, object], meaning: str) -> Iterator[Setting]:
    """Yield the name of a model or an agent, and its settings with their defaults."""
    name = str(given["name"])
    defaults: Mapping[str, object] = {}
    about: Mapping[str, str] = {}
    if group == "model":
        from simscaleai.models.registry import model_arguments, model_class

        defaults, about = model_arguments(name), _meanings(model_class(name))
    elif group == "agent":
        from simscaleai.rl.agents.agent import resolve_agent

        about = _meanings(type(resolve_agent(dict(given), 0)[1]))
    yield Setting(f"{group}.name", name, meaning)
    for key, value in {**defaults, **given}.items():
        if key != "name":
            text = "" if value is inspect.Parameter.empty else _text(value)
            yield Setting(f"{group}.{key}", text, about.get(key, ""))


def _meanings(cls: type) -> dict[str, str]:
    """Return {field: meaning} from the docstrings of a class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = _SECTION.search(inspect.cleandoc(base.__doc__ or ""))
        for names, text in _ENTRY.findall(section[1]) if section is not None else ():
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _text(value: object) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, str | Path):
        return str(value) or '""'
    try:
        return json.dumps(value, default=str).replace('"', "")  # as YAML writes it
    except (TypeError, ValueError):
        return str(value)
