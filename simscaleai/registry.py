"""Registries: names for classes and functions that are imported when they are first used.

    models: Registry[type[nn.Module]] = Registry("model", {"bc": "simscaleai.models.bc:BehaviorCloning"})
    models.register("mine", Mine)
    models.get("bc")        # imports simscaleai.models.bc

An entry is the registered object itself or "module:attribute", which is imported at the first `get`; listing
names imports nothing. Registering another object under a taken name is an error, so that a user's
registration never hides a built-in. Plugins are imported before a name is looked up, see `plugins`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

from simscaleai import plugins
from simscaleai.errors import UserError, unknown_name

E = TypeVar("E")


class Registry(Generic[E]):
    """A mapping from names to entries of one type.

    Args:
      kind: what an error calls an entry, such as "model".
      builtin: {name: "module:attribute"} of the package's own entries.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, E | str] = dict(builtin or {})
        self._builtin = frozenset(self._entries)

    def register(self, name: str, thing: E | str) -> None:
        """Give `thing` (an entry or "module:attribute") a name; raise UserError if the name is taken.

        Registering the same object again is harmless: a module may be imported twice, under two names or
        after an edit in a notebook.
        """
        known = self._entries.get(name)
        if known is not None and not _same(known, thing):
            raise UserError(
                f"The {self.kind} name {name!r} is taken by {_describe(known)}; choose another name."
            )
        if known is None:
            self._entries[name] = thing

    def get(self, name: str) -> E:
        """Return the entry called `name`, importing it if needed; UserError lists known names."""
        plugins.load_requested()
        # installed plugins may be slow or broken, and are not needed before
        if name not in self._entries:
            plugins.load_installed()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries, plugins.remedy())
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            # The string names an object of the type that whoever wrote the registry declared.
            imported = cast(E, getattr(importlib.import_module(module), attribute))
            self._entries[name] = imported
            return imported
        return entry

    def added(self) -> dict[str, E]:
        """Return the entries that were registered beside the built-ins."""
        return {name: self.get(name) for name in self.known() if name not in self._builtin}

    def names(self) -> list[str]:
        """Return all names, sorted, those of plugins too; UserError if a requested plugin is broken."""
        plugins.load_requested()
        plugins.load_installed()
        return self.known()

    def known(self) -> list[str]:
        """Return the names registered so far, sorted; imports nothing."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries


def _describe(thing: Any) -> str:
    """Return "module:attribute" of an entry, which is how built-ins are written down."""
    return thing if isinstance(thing, str) else f"{thing.__module__}:{thing.__qualname__}"


def _same(known: object, thing: object) -> bool:
    # By name too: a class that was defined again, by a reload, is another object.
    return known is thing or _describe(known) == _describe(thing)
