"""Names for things that are loaded when first used.

An entry is the thing itself or `"module:attribute"`, which is imported at the first `get`; listing
names imports none of them. Registering another thing under a taken name is an error, so that a user's
registration never hides a built-in. Packages that register names of their own are imported before a name is
looked up, see `plugins`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from simscaleai import plugins
from simscaleai.errors import UserError, unknown_name


class Registry:
    """A mapping from name to thing; `kind` is what an error calls it, such as "model"."""

    def __init__(self, kind: str, builtin: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = dict(builtin or {})
        self._builtin = frozenset(self._entries)

    def register(self, name: str, thing: Any) -> None:
        """Give `thing` (an object or `"module:attribute"`) a name; raise UserError if it is taken.

        Registering the same thing again is harmless: a module may be imported twice.
        """
        known = self._entries.get(name)
        if known is not None and not _same(known, thing):
            raise UserError(
                f"The {self.kind} name {name!r} is taken by {_describe(known)}; choose another name."
            )
        if known is None:
            self._entries[name] = thing

    def get(self, name: str) -> Any:
        """Return the thing called `name`, importing it if needed; UserError lists known names."""
        plugins.load_requested()
        if name not in self._entries:
            plugins.load_installed()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries, plugins.remedy())
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return entry

    def added(self) -> dict[str, Any]:
        """Return {name: thing} of what was registered beside the built-ins."""
        return {k: thing for k, thing in self._entries.items() if k not in self._builtin}

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
    return thing if isinstance(thing, str) else f"{thing.__module__}:{thing.__qualname__}"


def _same(known: Any, thing: Any) -> bool:
    return known is thing or _describe(known) == _describe(thing)
