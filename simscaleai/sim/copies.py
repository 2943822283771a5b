"""Copies of environments whose attributes are views of MuJoCo's memory.

An array such as `data.qpos`, or a named view such as `data.joint("hinge")`, is a window into one MjData.
`deepcopy` and `pickle` would turn it into an array of its own, which nothing updates. Therefore each window
is replaced by its description (`_Window`) while an environment is copied, and opened again on the model and
data of the copy.

Trap: windows are found in attributes of the environment and in lists, tuples and dicts there. A window
that is deeper, in another object or a closure, cannot be replaced, and the copy is refused.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import types
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeGuard, TypeVar

import mujoco
import numpy as np

from simscaleai.array_types import Array
from simscaleai.errors import UserError

_VIEWS = {
    getattr(mujoco._structs, f"_Mj{owner}{kind}Views"): (owner.lower(), kind.lower())
    for owner in ("Data", "Model")
    for kind in ("Actuator", "Body", "Camera", "Geom", "Joint", "Light", "Sensor", "Site", "Tendon")
}
"""{type of a named view: (its owner, the owner's method that gives it)}."""

_STRUCTS = {mujoco.MjOption: ("opt", "gravity"), mujoco.MjStatistic: ("stat", "center")}
"""{type of a part of the model: (its name, an array in it)}."""


class Simulated(Protocol):
    """Environment with one model and its data."""

    model: mujoco.MjModel
    data: mujoco.MjData

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object]) -> None: ...


T = TypeVar("T", bound=Simulated)
_Owners = dict[str, mujoco.MjModel | mujoco.MjData]
_Container = list[object] | tuple[object, ...] | dict[object, object]


class _Place(NamedTuple):
    """Position of an array in a field; `offset` and `strides` in bytes."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    writeable: bool


@dataclass(frozen=True)
class _Window:
    """Description of a window, from which it is opened again on another `model` or `data`.

    Attributes:
      owner: "model" or "data".
      name: a field, or the method of a named view.
      at: the place of an array, the id of a named view, or None for all of a part such as `model.opt`.
    """

    owner: str
    name: str
    at: _Place | int | None

    def open(self, owners: _Owners) -> object:
        source = getattr(owners[self.owner], self.name)
        if self.at is None:
            return source
        if isinstance(self.at, int):
            return source(self.at)
        offset, shape, strides, dtype, writeable = self.at
        view: Array = np.ndarray(shape, dtype, source, offset, strides)
        view.flags.writeable = writeable
        return view


def copyable_state(env: Simulated, dropped: tuple[str, ...]) -> dict[str, object]:
    """Return the attributes of `env` as `restore` takes them.

    Args:
      dropped: attributes that the copy makes anew when it needs them; None in the state.

    Raises:
      UserError: a window is where it cannot be replaced.
    """
    state = {**vars(env), **dict.fromkeys(dropped)}
    search = _Search(env, {"model": env.model, "data": env.data})
    return {
        name: search.closed(value, f"{type(env).__name__}.{name}") for name, value in state.items()
    }


def restore(env: Simulated, state: dict[str, object]) -> None:
    """Give `env` the attributes of a `copyable_state`, with windows into its own model and data."""
    model, data = state["model"], state["data"]
    assert isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)
    owners: _Owners = {"model": model, "data": data}
    opened: dict[int, object] = {}
    vars(env).update({name: _opened(value, owners, opened) for name, value in state.items()})


def deep_copy(env: T, memo: dict[int, object]) -> T:
    """Return what `copy.deepcopy(env)` does; the copy's data belongs to the copy's model.

    Raises:
      UserError: an attribute cannot be copied.
    """
    copied = object.__new__(type(env))
    memo[id(env)] = copied
    state = env.__getstate__()
    copy_data(env.model, env.data, memo)
    # attribute by attribute, so that an error can name the one that cannot be copied
    for name, value in state.items():
        try:
            state[name] = copy.deepcopy(value, memo)
        except TypeError as error:  # what a type without support for copies raises
            raise UserError(
                f"{type(env).__name__}.{name} cannot be copied ({error}); leave it out in __getstate__."
            ) from error
    copied.__setstate__(state)
    return copied


def copy_data(model: mujoco.MjModel, data: mujoco.MjData, memo: dict[int, object]) -> mujoco.MjData:
    """Return a copy of `data` that belongs to the copy of `model`; both are in `memo` from then on."""
    known = memo.get(id(data))
    if isinstance(known, mujoco.MjData):
        return known
    own = copy.deepcopy(model, memo)
    copied = mujoco.MjData(own)
    mujoco.mj_copyData(copied, own, data)
    memo[id(data)] = copied
    return copied


def _opened(value: object, owners: _Owners, done: dict[int, object]) -> object:
    """Return `value` with windows opened; `done` has the containers so far, by their ids."""
    if isinstance(value, _Window):
        return value.open(owners)
    if not _is_container(value):
        return value
    if id(value) not in done:
        done[id(value)] = value  # for a container that holds itself
        items = _items(value)
        done[id(value)] = _remade(value, items, [_opened(item, owners, done) for item in items])
    return done[id(value)]


def _is_container(value: object) -> TypeGuard[_Container]:
    """Return whether `value` is a plain list, tuple or dict; subclasses may hold more than items."""
    return type(value) in (list, tuple, dict)


def _items(container: _Container) -> list[object]:
    """Return the items of a list or tuple, or the values of a dict."""
    return list(container.values() if isinstance(container, dict) else container)


def _remade(container: _Container, old: list[object], new: list[object]) -> _Container:
    """Return a list, tuple or dict with the values `new`; itself where they are the `old` ones."""
    if all(a is b for a, b in zip(old, new, strict=True)):
        return container
    if isinstance(container, dict):
        return dict(zip(container, new, strict=True))
    return type(container)(new)


def _window(value: object, owners: _Owners) -> _Window | None:
    """Return how to open `value` again; None if it is no window into `owners`."""
    if type(value) in _VIEWS:
        return _Window(*_VIEWS[type(value)], int(getattr(value, "id")))  # noqa: B009
    if type(value) in _STRUCTS:
        name, field = _STRUCTS[type(value)]
        shared = np.shares_memory(
            getattr(value, field), getattr(getattr(owners["model"], name), field)
        )
        return _Window("model", name, None) if shared else None
    if not isinstance(value, np.ndarray) or not value.size:
        return None
    memory: object = value.base  # of the array that owns it; that of MuJoCo is an object of its own
    while isinstance(memory, np.ndarray):
        memory = memory.base
    if memory is None or isinstance(memory, bytes | bytearray | memoryview):
        return None  # memory of NumPy's or Python's own
    # the field whose memory contains that of `value`
    low, high = np.lib.array_utils.byte_bounds(value)
    for owner, source in owners.items():
        for name in dir(source):
            whole = None if name.startswith("_") else getattr(source, name)
            if isinstance(whole, np.ndarray) and whole.size:
                start, end = np.lib.array_utils.byte_bounds(whole)
                if start <= low and high <= end:
                    # the first element need not be at the lowest address: strides may be negative
                    offset = value.__array_interface__["data"][0] - start
                    at = _Place(
                        offset, value.shape, value.strides, value.dtype, value.flags.writeable
                    )
                    return _Window(owner, name, at)
    return None


class _Search:
    """Finds windows in the attributes of `env`: replaces them in plain containers, refuses others."""

    def __init__(self, env: Simulated, owners: _Owners) -> None:
        self.env = env
        self.owners = owners
        # objects searched already, by id: attributes may form circles
        self.seen = {id(env), id(env.model), id(env.data)}
        self.replaced: dict[
            int, object
        ] = {}  # {id: replaced container}, so that shared ones stay shared

    def closed(self, value: object, where: str) -> object:
        """Return `value` with windows replaced."""
        window = _window(value, self.owners)
        if window is not None:
            return window
        if not _is_container(value):
            self.refuse_hidden(value, where)
            return value
        if id(value) not in self.replaced:
            self.replaced[id(value)] = value  # for a container that holds itself
            items = _items(value)
            new = [self.closed(item, where) for item in items]
            self.replaced[id(value)] = _remade(value, items, new)
        return self.replaced[id(value)]

    def refuse_hidden(self, value: object, where: str) -> None:
        """Raise UserError if `value` holds a window, or a closure over the simulation itself."""
        if id(value) in self.seen or isinstance(value, type | types.ModuleType):
            return
        self.seen.add(id(value))
        owned = (self.env, *self.owners.values())
        for name, part in _parts(value):
            closure = isinstance(value, types.FunctionType) and any(part is o for o in owned)
            if closure or _window(part, self.owners) is not None:
                raise UserError(
                    f"{where} holds memory of this simulation ({name}), which a copy would not follow;"
                    " keep it in an attribute of the environment itself, or define __getstate__ without it."
                )
            self.refuse_hidden(part, where)


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield (name, part) of items, attributes and closure variables; nothing where `value` copies itself."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    elif isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            yield from ((f"[{i}]", item) for i, item in enumerate(value.ravel().tolist()))
    elif isinstance(value, functools.partial):
        yield from (("arguments", part) for part in (value.func, *value.args, value.keywords))
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # a variable that has no value yet
                yield name, cell.cell_contents
    elif not any("__getstate__" in vars(kind) for kind in type(value).__mro__[:-1]):
        slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
        own = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        yield from (
            (f".{n}", part) for n, part in {**own, **getattr(value, "__dict__", {})}.items()
        )


def _slots(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)
