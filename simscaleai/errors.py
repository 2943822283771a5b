"""Mistakes a user can make, as exceptions that a command prints in one sentence.

A `UserError` names the offender, what is allowed and the remedy; the command line turns it into
that sentence and exit code 2. Broken internal invariants are asserts, never a `UserError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A wrong name, value, shape or file that the caller can put right.

    Names from files are part of the message, and so control characters in it are written out.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(a) if isinstance(a, str) else a for a in args))


class MissingFileError(UserError, FileNotFoundError):
    """A file that should be read is not there."""


class ExistingFileError(UserError, FileExistsError):
    """A file that would be written is there already and was not offered for overwriting."""


class UnknownKeywordError(UserError, TypeError):
    """A keyword argument that is not taken; callers who try one out expect Python's own TypeError."""


class MissingPackageError(UserError, ImportError):
    """A package that is no dependency, and that what was asked for needs."""


class UnsavedResults(UserError):
    """Results that could not be written in the end; they are in `results`."""

    def __init__(self, message: str, results: dict[str, Any]) -> None:
        super().__init__(message)
        self.results = results


def printable(text: str) -> str:
    r"""Return `text` with control characters written out, "\\x1b" for a terminal's escape.

    Line breaks stay. Marks that turn the direction of writing, and halves of characters that cannot be
    printed at all, are written out too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `known`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str = "") -> UserError:
    """Return the error for a name that is not one of `known`.

    Args:
      kind: what the name is of, such as "model".
      name: the unknown one.
      known: the names that there are.
      remedy: a clause about names that are not among them.
    """
    names = sorted(known)
    clauses = [f"Unknown {kind} {name!r}", f"known: {', '.join(names) or 'none'}", remedy]
    return UserError(f"{'; '.join(filter(None, clauses))}.{did_you_mean(name, names)}")
