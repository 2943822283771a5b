"""Errors of the HDF5 library as one sentence that names the object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import h5py
from h5py import h5i

from simscaleai.errors import UserError
from simscaleai.guards import reason

_Method = TypeVar("_Method", bound=Callable[..., Any])


class _Refusing(Protocol):
    """What a decorated method needs of its `SafeFile`."""

    def refuse(self, name: str, why: str) -> UserError:
        """Return the error for a refused object."""


def bounded(method: _Method) -> _Method:
    """Turn any exception of HDF5 in a method of `SafeFile` into a UserError that names the object."""
    names = list(inspect.signature(method).parameters)

    @wraps(method)
    def call(self: _Refusing, *args: Any) -> Any:
        try:
            return method(self, *args)
        except UserError:
            raise
        except Exception as error:  # damage makes HDF5 raise any type; see `guards.guarded`
            given = dict(zip(names[1:], args, strict=False))
            label = given.get("label") or _path_of(args[0])
            raise self.refuse(label, f"cannot be read ({reason(error)})") from error

    return cast(_Method, call)


def _path_of(obj: h5py.h5i.ObjectID) -> str:
    """Return the path of an object in its file, for an error message."""
    try:
        return decoded_name(h5i.get_name(obj)).lstrip("/") or "/"
    except Exception:  # in a damaged file, even that may fail
        return "an object"


def decoded_name(name: bytes | str) -> str:
    """Return a name in a file as text, whatever its bytes are."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name
