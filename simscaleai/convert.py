"""Conversion of arguments to plain Python values, once, where a user's values enter the package.

    plain({"lr": np.float64(1e-3), "path": Path("a.h5")})     # {"lr": 0.001, "path": "a.h5"}

    @dataclass
    class Settings(Converted): ...       # fields are converted whenever they are assigned

    @converted
    def generate(n_episodes: int, output: str | Path): ...    # arguments by their annotations

NumPy and torch scalars, arrays without axes, fractions and enumerations of numbers become numbers; paths
become text. Checkpoints, YAML and JSON can hold plain values only, so that everything converted here can be
saved later. Other objects, and tensors with axes, are left as they are.
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
_ANYTHING = (Any, object)  # annotations that allow every value


def plain(value: object) -> Any:
    """Return `value` with every number, text and container in it as Python's own."""
    if value is None or type(value) in (bool, int, float, str):
        return value  # the common case; exact types, for np.float64 is a subclass of float
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # of NumPy, torch, pandas, jax, ...
        # A tensor with axes stays: it may be large, and on a GPU.
        if hasattr(value, "detach") and getattr(value, "ndim", False):
            return value
        return plain(_to_list(value))
    if isinstance(value, str):
        return str.__str__(value)  # np.str_ and text enumerations are subclasses of str
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
        # Past `__setattr__`: the dataclass may be frozen, or convert by itself.
        copied = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(copied, field.name, plain(getattr(value, field.name)))
        return copied
    return value


def _to_list(value: Any) -> object:
    """Return `value.tolist()`, with single precision rounded as it prints: 0.1 and not 0.10000000149."""
    if str(value.dtype).removeprefix("torch.") in ("float32", "float16"):
        # The shortest text that gives the same float32, read as a Python float.
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        return array.astype(str).astype(float).tolist()
    return value.tolist()


def without_nan(value: object) -> Any:
    """Return plain values with None in place of NaN and infinity, which JSON does not have."""
    value = plain(value)
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_flag(value: object) -> bool | None:
    """Return whether a flag of any kind is true: "False" is not; None for None and NaN.

    Args:
      value: a bool, a number, a word such as "true", or a container of exactly one of these.

    Raises:
      ValueError: it is none of these.
    """
    value = _only_entry(value)
    if value is None or value != value:  # NaN is the one value that differs from itself
        return None
    if isinstance(value, bool | int | float):
        return bool(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and value.strip().lower() in (*_TRUE, *_FALSE):
        return value.strip().lower() in _TRUE
    raise ValueError(f"{value!r} is neither true nor false")


def _only_entry(value: object) -> Any:
    """Return the plain value in an array, tensor or list of exactly one entry; else the plain `value`."""
    value = plain(value)
    while hasattr(value, "__len__") and hasattr(value, "__getitem__") and len(value) == 1:
        if isinstance(value, str | bytes | Mapping):
            break  # a text of one character is no container of it
        value = plain(value[0])
    return value


def convert(value: object, hint: object, what: str) -> Any:
    """Return `value` as the type `hint`, if it stands for exactly one value of that type.

    Args:
      value: the value; np.float32(3) and "3" stand for the int 3, and 3.5 does not.
      hint: int, float, bool, str, Path, a list or mapping, or a union of these; a value for any other hint is
        returned as it is.
      what: the name of the value, for errors.

    Raises:
      UserError: the value does not stand for one of that type.
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
            return [str(value)]  # one entry, not a list of its letters
        found = plain(value)
        return list(found) if isinstance(found, tuple) else found
    if hint in _ANYTHING or get_origin(hint) in (dict, tuple, collections.abc.Mapping):
        return plain(value)
    return value


def _convert_to_one_of(value: object, hints: Sequence[object], what: str) -> object:
    """Return `value` as the first of `hints` that it can be converted to."""
    if not all(hint in _SCALARS or hint is Path or get_origin(hint) in _LISTS for hint in hints):
        return value
    found = plain(value)
    if type(found) in hints:  # 3.5 for `int | float` is not tried as an int first
        return found
    for hint in hints[:-1]:
        try:
            return convert(found, hint, what)
        except UserError:
            continue
    return convert(found, hints[-1], what)  # its error is the one that the user sees


def _int(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError  # int(3.5) would drop the .5 without a word
    return int(value)


def _bool(value: object) -> bool:
    found = as_flag(value)
    if found is None or (isinstance(value, int | float) and value not in (0, 1)):
        raise ValueError  # 2 is more likely a count in the wrong place than "true"
    return found


def _str(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value
    if type(value).__module__ == "torch":  # torch.device("cpu"), torch.bfloat16
        return str(value).removeprefix("torch.")
    if not isinstance(value, str | int | float):
        raise TypeError
    return str(value)


# {type: (conversion of a plain value, the type in words)}
_SCALARS: dict[object, tuple[Callable[[Any], object], str]] = {
    int: (_int, "a whole number"),
    float: (float, "a number"),
    bool: (_bool, "true or false"),
    str: (_str, "text"),
}


class Converted:
    """Base of settings dataclasses: a value is converted to its field's type whenever it is assigned."""

    def __setattr__(self, name: str, value: object) -> None:
        hint = hints_of(type(self)).get(name)
        if hint is not None:
            value = convert(value, hint, f"{type(self).__name__}.{name}")
        object.__setattr__(self, name, value)


def converted(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that its arguments are converted to their annotated types.

    Arguments annotated with `Any` or `object`, and those of `*args` and `**kwargs`, are left alone.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = hints_of(function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # the function's own error says it best
            return function(*args, **kwargs)
        for name, value in bound.arguments.items():
            hint = hints.get(name, object)
            variadic = signature.parameters[name].kind in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            )
            if hint not in _ANYTHING and not variadic:
                bound.arguments[name] = convert(value, hint, name)
        return function(*bound.args, **bound.kwargs)

    return call


def hints_of(thing: Callable[..., object]) -> dict[str, object]:
    """Return the resolved annotations of a class or a function by name.

    An annotation that cannot be resolved, since its name is imported under TYPE_CHECKING only, is `object`.
    """
    if thing not in _CACHE:
        if isinstance(thing, type):
            _CACHE[thing] = get_type_hints(thing)
        else:
            # One by one: a single name that is missing would make `get_type_hints` fail for all.
            known = inspect.unwrap(thing).__globals__
            _CACHE[thing] = {k: _resolved(v, known) for k, v in thing.__annotations__.items()}
    return _CACHE[thing]


def _resolved(annotation: object, known: dict[str, object]) -> object:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, known)["it"]
    except NameError:
        return object


# Weak keys: classes and functions that a test or a notebook defines again can be freed.
_CACHE: MutableMapping[object, dict[str, object]] = weakref.WeakKeyDictionary()
