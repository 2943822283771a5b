"""Settings from a YAML file and from `key=value` overrides, read into a dataclass.

The dataclass is the schema. Its defaults come first, then a YAML file, then overrides such as `lr=3e-4` or
`cameras.0.width=64`, then keyword values. A later list replaces an earlier one; a later mapping is merged
into an earlier one. Values are checked against the types of the fields, and unknown keys are refused. A file
is data and nothing else: OmegaConf's interpolation `${...}` is refused, and no value names code to run.

    @dataclass
    class Settings:
        lr: float = 1e-4
        seed: int | None = None

    load_config(Settings, overrides=["lr=3e-4"], seed=1)   # Settings(lr=0.0003, seed=1)
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from simscaleai.convert import plain
from simscaleai.errors import (
    UnknownKeywordError,
    UserError,
    did_you_mean,
    unknown_name,
)
from simscaleai.json_types import JsonDict
from simscaleai.yaml_text import parse_yaml, read_yaml

T = TypeVar("T")


def load_config(
    cls: type[T],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    **values: object,
) -> T:
    """Build `cls` from its defaults, a YAML file, overrides and keyword values, in this order.

    A class attribute `aliases` {"group.old": "group.new"} gives further names for settings.

    Args:
      cls: a dataclass whose fields may be numbers, strings, paths, lists, dicts and dataclasses.
      path: a YAML file with a mapping of field names; None for none.
      overrides: texts `key=value`, the value in YAML syntax; dots and indices reach into nested fields.
      **values: field values as Python objects.

    Raises:
      MissingFileError: the file `path` does not exist.
      UnknownKeywordError: `values` has a name that is not a field; both a UserError and a TypeError.
      UserError: an unknown key, a value of the wrong type, or text that is not YAML.
    """
    return _load(cls, cls, path, overrides, values)


def change_config(config: T, path: str | Path | None = None, **values: object) -> T:
    """Build a dataclass from an instance, a YAML file and keyword values; see `load_config`."""
    return _load(type(config), plain(config), path, (), values)


def _load(
    cls: type[T],
    schema: object,
    path: str | Path | None,
    overrides: Sequence[str],
    values: JsonDict,
) -> T:
    """Build `cls`, starting from `schema`: the class for its defaults, or an instance for its values."""
    config = _defaults(schema) if isinstance(schema, type) else _structured(schema, "the defaults")
    if overrides:  # which change it in place, where `_merge` makes a copy
        config = deepcopy(config)
    if path is not None:
        config = _merge(cls, config, _renamed(cls, _read(Path(path)), str(path)), str(path))
    for word in overrides:
        _override(cls, config, word)
    if values:
        _refuse_unknown_keywords(cls, values)
        source = "the keyword arguments"
        config = _merge(cls, config, _renamed(cls, values, source), source)
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except MissingMandatoryValue as error:
        raise UserError(f"The {cls.__name__} setting {error.full_key!r} needs a value.") from None


def _refuse_unknown_keywords(cls: type, names: Iterable[str]) -> None:
    known = sorted(field.name for field in dataclasses.fields(cls))
    for name in names:
        if name not in known:
            # the words are Python's own: libraries that try a keyword out look for them
            raise UnknownKeywordError(
                f"{cls.__name__} got an unexpected keyword argument {name!r}; known:"
                f" {', '.join(known)}.{did_you_mean(name, known) or _other_place(cls, name)}"
            )


def to_yaml(config: object) -> str:
    """Return a dataclass instance as YAML text that `load_config` reads back."""
    return OmegaConf.to_yaml(_structured(plain(config), "the configuration"))


@cache
def _defaults(cls: type) -> DictConfig:
    """Return the defaults of a dataclass as a node that is not to be changed; making it takes long."""
    return _structured(cls, "the defaults")


def _structured(schema: object, source: str) -> DictConfig:
    """Return a dataclass, or an instance of one, as an OmegaConf node that checks types."""
    cls = schema if isinstance(schema, type) else type(schema)
    try:
        return OmegaConf.structured(schema)
    except OmegaConfBaseException as error:
        raise _refused(cls, error, source) from None


def _read(path: Path) -> JsonDict:
    data = read_yaml(path)
    if data is None:  # an empty file changes nothing
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold a mapping of settings, not a {type(data).__name__}.")
    return data


def _merge(cls: type, config: DictConfig, data: JsonDict, source: str) -> DictConfig:
    _refuse_interpolation(data.values(), source)  # before OmegaConf would resolve it
    try:
        merged = OmegaConf.merge(config, OmegaConf.create(plain(data)))
    except UserError:
        raise
    except Exception as error:  # OmegaConf raises its own errors and, for some values, Python's
        raise _refused(cls, error, source) from None
    assert isinstance(merged, DictConfig)
    return merged


def _aliases(cls: type) -> Mapping[str, str]:
    """Return {alias: dotted name of the setting}, from the class attribute `aliases` of a schema."""
    return getattr(cls, "aliases", {})


def _renamed(cls: type, data: Mapping[str, object], source: str) -> JsonDict:
    """Return `data` with every alias replaced; UserError if a setting is given under both names."""
    # A copy of both levels: the caller's mapping must not change.
    renamed: JsonDict = {k: dict(v) if isinstance(v, Mapping) else v for k, v in data.items()}
    for old, new in _aliases(cls).items():
        old_group, old_key = old.split(".")
        new_group, new_key = new.split(".")
        if not isinstance(renamed.get(old_group), dict) or old_key not in renamed[old_group]:
            continue
        target = renamed.setdefault(new_group, {})
        if not isinstance(target, dict) or new_key in target:
            raise UserError(f"{source}: {old} and {new} are one setting; give {new} alone.")
        target[new_key] = renamed[old_group].pop(old_key)
    return renamed


def parse_override(word: str) -> tuple[str, object]:
    """Return key and value of a text `key=value`; UserError for another text."""
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise UserError(f"{word!r} is not a setting; write KEY=VALUE, for example seed=1.")
    # The value is YAML, so that `cameras=[front, wrist]` and `resume_from=null` mean what they do in a file.
    value = parse_yaml(text, repr(word))
    _refuse_interpolation([value], repr(word))
    return key, value


def _override(cls: type, config: DictConfig, word: str) -> None:
    key, value = parse_override(word)
    key = _aliases(cls).get(key, key)
    try:
        # `merge`: `data={path: a.h5}` keeps the other settings of the group.
        OmegaConf.update(config, key, value, merge=True)
    except UserError:
        raise
    except Exception as error:
        raise _refused(cls, error, repr(word)) from None


def _refuse_interpolation(values: Iterable[object], source: str) -> None:
    """Raise UserError for `${...}`: it could read environment variables or point at itself."""
    for value in values:
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{source}: {value!r} refers to another value; write the value itself.")
        if isinstance(value, dict):
            _refuse_interpolation(value.values(), source)
        elif isinstance(value, list | tuple):
            _refuse_interpolation(value, source)


def _refused(cls: type, error: Exception, source: str) -> UserError:
    """Return OmegaConf's error as one sentence that names the source of the value."""
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        # The unknown key may be in a nested dataclass, whose own fields are then the known ones.
        owner = error.object_type if dataclasses.is_dataclass(error.object_type) else cls
        known = [field.name for field in dataclasses.fields(owner)]
        name = str(error.key)
        if name not in known:
            unknown = str(unknown_name(f"{owner.__name__} setting", name, known))
            elsewhere = "" if did_you_mean(name, known) else _other_place(cls, name)
            return UserError(f"{source}: {unknown}{elsewhere}")
    key = getattr(error, "full_key", None)
    where = f"{cls.__name__} setting {key!r}: " if key else ""
    return UserError(f"{source}: {where}{_first_line(error)}")


def _other_place(cls: type, name: str) -> str:
    """Return " Did you mean 'group.name'?" if a group of `cls` has a setting of a similar name, else ""."""
    places = dict(_places(cls))
    close = difflib.get_close_matches(name, places, n=1)
    return f" Did you mean {places[close[0]]!r}?" if close else ""


def _places(cls: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, dotted name) of every setting of a dataclass and of the dataclasses in its fields."""
    for name, hint in get_type_hints(cls).items():
        yield name, f"{prefix}{name}"
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _places(hint, f"{prefix}{name}.")


def _first_line(error: Exception) -> str:
    """Return the first line of an error; OmegaConf adds lines of context that mean nothing to a user."""
    lines = str(error).strip().splitlines()
    return f"{lines[0].rstrip('.')}." if lines else type(error).__name__
