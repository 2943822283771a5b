"""Types of JSON values."""

from __future__ import annotations

from typing import Any, TypeAlias

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None
"""A JSON value whose type has to be checked before it is used: what a file or a server says."""

JsonDict: TypeAlias = dict[str, Any]
"""A JSON object whose keys the reader knows: settings, recipes, statistics, arguments by name."""
