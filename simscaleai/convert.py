"""Plain Python values out of what scripts hold: the one conversion at every public door.

    plain({"lr": np.float64(1e-3), "path": Path("a.h5")})     # {"lr": 0.001, "path": "a.h5"}

    @dataclass
    class Settings(Converted): ...       # fields are converted whenever they are assigned

    @converted
    def generate(n_episodes: int, output: str | Path): ...    # arguments by their annotations

A NumPy or torch scalar, an array of no axes, a fraction, an enumeration of numbers: all are numbers, and
a path is text. Checkpoints, YAML and JSON hold plain values alone, so whatever is converted here can be
saved in the end. What is not a number, text or container is left as it is, and so is a tensor with axes.
"""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import enum
import functools
import inspect
import math
import numbers
import os
import types
import typing
import weakref
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from simscaleai.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

_TRUE, _FALSE = ("true", "yes", "on", "y", "1", "1.0"), ("false", "no", "off", "n", "0", "0.0")
_LISTS = (list, collections.abc.Sequence)


def plain(value: Any) -> Any:
    """Return `value` with every number, text and container in it as Python's own."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # of NumPy, torch, pandas, jax, ...
        is_tensor = hasattr(value, "detach")
        return value if is_tensor and value.ndim else plain(_listed(value))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real | Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return list(map(plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        copied = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(copied, field.name, plain(getattr(value, field.name)))
        return copied
    return value


def _listed(value: Any) -> Any:
    """`tolist()`, with 0.1 for what single precision has for it, and not 0.10000000149."""
    if str(value.dtype).removeprefix("torch.") in ("float32", "float16"):
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        return array.astype(str).astype(float).tolist()
    return value.tolist()


def without_nan(value: Any) -> Any:
    """Return plain values with None in place of the numbers that JSON does not have: NaN and infinity."""
    value = plain(value)
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_flag(value: Any) -> bool | None:
    """Return the truth of a flag of any kind: "False" is false; None for NaN and for None.

    Args:
      value: a bool, a number, such a word as "true", or a container of exactly one of these.

    Raises:
      ValueError: it is none of these.
    """
    value = _only_entry(value)
    if value is None or value != value:
        return None
    if isinstance(value, bool | int | float):
        return bool(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and value.strip().lower() in (*_TRUE, *_FALSE):
        return value.strip().lower() in _TRUE
    raise ValueError(f"{value!r} is neither true nor false")


def _only_entry(value: Any) -> Any:
    """The plain value in an array, tensor or list of exactly one; any other value made plain."""
    value = plain(value)
    while hasattr(value, "__len__") and hasattr(value, "__getitem__") and len(value) == 1:
        if isinstance(value, str | bytes | Mapping):
            break
        value = plain(value[0])
    return value


def convert(value: Any, hint: Any, what: str) -> Any:
    """Return `value` as the type `hint` where it can mean only that.

    Args:
      value: of any kind.
      hint: int, float, bool, str, Path, a list or mapping, or a union of these; values of other types are
        left as they are.
      what: the name of the value, for errors.

    Raises:
      UserError: it is of another kind.
    """
    if value is None:
        if hint in _SCALARS:
            raise UserError(f"{what} is None; it must be {_SCALARS[hint][1]}.")
        return None
    if get_origin(hint) in (typing.Union, types.UnionType):
        return _convert_to_one_of(value, [h for h in get_args(hint) if h is not type(None)], what)
    if hint is Path:
        return Path(value) if isinstance(value, str | os.PathLike) else value
    if hint in _SCALARS:
        try:
            return _SCALARS[hint][0](_only_entry(value))
        except (ValueError, TypeError, OverflowError):
            raise UserError(f"{what} is {value!r}; it must be {_SCALARS[hint][1]}.") from None
    if get_origin(hint) in _LISTS:
        if isinstance(value, str) and get_args(hint) == (str,):
            return [str(value)]  # and not its letters
        found = plain(value)
        return list(found) if isinstance(found, tuple) else found
    if hint is Any or get_origin(hint) in (dict, tuple, collections.abc.Mapping):
        return plain(value)
    return value


def _convert_to_one_of(value: Any, hints: list[Any], what: str) -> Any:
    if not all(hint in _SCALARS or hint is Path or get_origin(hint) in _LISTS for hint in hints):
        return value
    found = plain(value)
    if type(found) in hints:
        return found
    for hint in hints[:-1]:
        try:
            return convert(found, hint, what)
        except UserError:
            continue
    return convert(found, hints[-1], what)


def _int(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    return float(value)


def _bool(value: Any) -> bool:
    found = as_flag(value)
    if found is None or (isinstance(value, int | float) and value not in (0, 1)):
        raise ValueError
    return found


def _str(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value
    if type(value).__module__ == "torch":  # torch.device("cpu"), torch.bfloat16
        return str(value).removeprefix("torch.")
    if not isinstance(value, str | int | float):
        raise TypeError
    return str(value)


_SCALARS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    int: (_int, "a whole number"),
    float: (_float, "a number"),
    bool: (_bool, "true or false"),
    str: (_str, "text"),
}


class Converted:
    """Base of dataclasses of settings: each field has its declared type from the moment it is assigned."""

    def __setattr__(self, name: str, value: Any) -> None:
        hint = hints_of(type(self)).get(name)
        if hint is not None:
            value = convert(value, hint, f"{type(self).__name__}.{name}")
        object.__setattr__(self, name, value)


def converted(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that converts the arguments of a function by their annotations; `Any` is left alone."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = hints_of(function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # the function's own error says it best
            return function(*args, **kwargs)
        for name, value in bound.arguments.items():
            hint = hints.get(name, Any)
            variadic = signature.parameters[name].kind in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            )
            if hint is not Any and not variadic:
                bound.arguments[name] = convert(value, hint, name)
        return function(*bound.args, **bound.kwargs)

    return call


def hints_of(thing: Any) -> dict[str, Any]:
    """The resolved annotations of a class or a function; `Any` for what only type checkers know."""
    if thing not in _CACHE:
        if isinstance(thing, type):
            _CACHE[thing] = get_type_hints(thing)
        else:
            known = inspect.unwrap(thing).__globals__
            _CACHE[thing] = {k: _resolved(v, known) for k, v in thing.__annotations__.items()}
    return _CACHE[thing]


def _resolved(annotation: Any, known: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, known)["it"]
    except NameError:
        return Any


_CACHE: MutableMapping[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
