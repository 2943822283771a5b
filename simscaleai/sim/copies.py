"""Copies of simulations: what reads MuJoCo's memory must read the copy's memory.

An array such as `data.qpos`, or a view such as `data.joint("hinge")`, is a window into one MjData.
`deepcopy` and `pickle` would make it an array of its own, which nothing updates. So an environment is
copied with each such window replaced by its description (`_Window`), which is opened again on the copy's
own model and data.

Trap: windows are found in the environment's attributes and in lists, tuples and dicts there. One that
lies deeper, in another object or a closure, cannot be replaced, and the copy is refused.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import types
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError

_VIEWS = {
    getattr(mujoco._structs, f"_Mj{owner}{kind}Views"): (owner.lower(), kind.lower())
    for owner in ("Data", "Model")
    for kind in ("Actuator", "Body", "Camera", "Geom", "Joint", "Light", "Sensor", "Site", "Tendon")
}
"""{type of a named view: (its owner, the owner's method that gives it)}."""

_STRUCTS = {mujoco.MjOption: ("opt", "gravity"), mujoco.MjStatistic: ("stat", "center")}
"""{type of a part of the model: (its name, an array in it)}."""


@dataclass(frozen=True)
class _Window:
    """How to open a window into the `model` or `data` again.

    Attributes:
      owner: "model" or "data".
      name: a field, or the method of a named view.
      at: an array's (byte offset, shape, strides, dtype, writeable), a named view's id, or None for all
        of a part such as `model.opt`.
    """

    owner: str
    name: str
    at: Any

    def open(self, owners: dict[str, Any]) -> Any:
        source = getattr(owners[self.owner], self.name)
        if self.at is None:
            return source
        if isinstance(self.at, int):
            return source(self.at)
        offset, shape, strides, dtype, writeable = self.at
        view: NDArray[Any] = np.ndarray(shape, dtype, source, offset, strides)
        view.flags.writeable = writeable
        return view


def copyable_state(env: Any, dropped: tuple[str, ...]) -> dict[str, Any]:
    """The attributes of `env`, which has a `model` and `data`, as `restore` takes them.

    Args:
      dropped: attributes that the copy makes afresh when it needs them; None in the state.

    Raises:
      UserError: a window lies where it cannot be replaced.
    """
    state = {**vars(env), **dict.fromkeys(dropped)}
    search = _Search(env, {"model": env.model, "data": env.data})
    return {
        name: search.closed(value, f"{type(env).__name__}.{name}") for name, value in state.items()
    }


def restore(env: Any, state: dict[str, Any]) -> None:
    """Give `env` the attributes of a `copyable_state`, with windows into its own model and data."""
    owners = {"model": state["model"], "data": state["data"]}
    opened: dict[int, Any] = {}
    vars(env).update({name: _opened(value, owners, opened) for name, value in state.items()})


def deep_copy(env: Any, memo: dict[int, Any]) -> Any:
    """What `copy.deepcopy(env)` returns; the copy's data belongs to the copy's model.

    Raises:
      UserError: an attribute cannot be copied.
    """
    copied = object.__new__(type(env))
    memo[id(env)] = copied
    state = env.__getstate__()
    copy_data(env.model, env.data, memo)
    for name, value in state.items():
        try:
            state[name] = copy.deepcopy(value, memo)
        except TypeError as error:  # what a type without support for copies raises
            raise UserError(
                f"{type(env).__name__}.{name} cannot be copied ({error}); leave it out in __getstate__."
            ) from error
    copied.__setstate__(state)
    return copied


def copy_data(model: mujoco.MjModel, data: mujoco.MjData, memo: dict[int, Any]) -> mujoco.MjData:
    """A copy of `data` that belongs to the copy of `model`; both are in `memo` from then on."""
    if id(data) not in memo:
        own = copy.deepcopy(model, memo)
        memo[id(data)] = mujoco.MjData(own)
        mujoco.mj_copyData(memo[id(data)], own, data)
    copied: mujoco.MjData = memo[id(data)]
    return copied


def _opened(value: Any, owners: dict[str, Any], done: dict[int, Any]) -> Any:
    """`value` with windows opened; `done` has the containers so far, by their ids."""
    if isinstance(value, _Window):
        return value.open(owners)
    if type(value) not in (list, tuple, dict):
        return value
    if id(value) not in done:
        done[id(value)] = value
        items = list(value.values() if type(value) is dict else value)
        done[id(value)] = _remade(value, items, [_opened(item, owners, done) for item in items])
    return done[id(value)]


def _remade(container: Any, old: list[Any], new: list[Any]) -> Any:
    """A list, tuple or dict with the values `new`; itself where they are the `old` ones."""
    if all(a is b for a, b in zip(old, new, strict=True)):
        return container
    if type(container) is dict:
        return dict(zip(container, new, strict=True))
    return type(container)(new)


def _window(value: Any, owners: dict[str, Any]) -> _Window | None:
    if type(value) in _VIEWS:
        return _Window(*_VIEWS[type(value)], int(value.id))
    if type(value) in _STRUCTS:
        name, field = _STRUCTS[type(value)]
        shared = np.shares_memory(
            getattr(value, field), getattr(getattr(owners["model"], name), field)
        )
        return _Window("model", name, None) if shared else None
    if not isinstance(value, np.ndarray) or not value.size:
        return None
    root: Any = value
    while isinstance(root.base, np.ndarray):
        root = root.base
    if root.base is None or isinstance(root.base, bytes | bytearray | memoryview):
        return None  # memory of NumPy's or Python's own
    low, high = np.lib.array_utils.byte_bounds(value)
    for owner, source in owners.items():
        for name in dir(source):
            whole = None if name.startswith("_") else getattr(source, name)
            if isinstance(whole, np.ndarray) and whole.size:
                start, end = np.lib.array_utils.byte_bounds(whole)
                if start <= low and high <= end:
                    offset = value.__array_interface__["data"][0] - start
                    at = (offset, value.shape, value.strides, value.dtype, value.flags.writeable)
                    return _Window(owner, name, at)
    return None


class _Search:
    """Finds windows in the attributes of `env`: replaces them in plain containers, refuses others."""

    def __init__(self, env: Any, owners: dict[str, Any]) -> None:
        self.env = env
        self.owners = owners
        self.seen = {id(env), id(env.model), id(env.data)}
        self.replaced: dict[int, Any] = {}  # containers, so that two references stay two to one

    def closed(self, value: Any, where: str) -> Any:
        """`value` with windows replaced."""
        window = _window(value, self.owners)
        if window is not None:
            return window
        if type(value) not in (list, tuple, dict):
            self.refuse_hidden(value, where)
            return value
        if id(value) not in self.replaced:
            self.replaced[id(value)] = value  # for a container that holds itself
            items = list(value.values() if type(value) is dict else value)
            new = [self.closed(item, where) for item in items]
            self.replaced[id(value)] = _remade(value, items, new)
        return self.replaced[id(value)]

    def refuse_hidden(self, value: Any, where: str) -> None:
        """UserError if a window, or the simulation itself in a closure, lies below `value`."""
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


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What `value` holds: items, attributes, variables of a closure; nothing where it copies itself."""
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
