"""Exceptions for mistakes of a user, which a command prints in one sentence.

A `UserError` names the offending value, what is allowed and the remedy; the command line prints that sentence
and ends with exit code 2. A violated internal invariant is an assert, never a `UserError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from simscaleai.json_types import JsonDict


class UserError(ValueError):
    """A wrong name, value, shape or file that the caller can put right.

    Names from files are part of the message, and so control characters in it are escaped: a file must not be
    able to move the cursor of a terminal or to hide a line.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(a) if isinstance(a, str) else a for a in args))


class MissingFileError(UserError, FileNotFoundError):
    """A file that should be read does not exist."""


class ExistingFileError(UserError, FileExistsError):
    """A file that would be written exists already, and the caller did not ask to overwrite it."""


class UnknownKeywordError(UserError, TypeError):
    """A keyword argument that a function does not take; libraries that probe for one expect a TypeError."""


class MissingPackageError(UserError, ImportError):
    """An optional package that the requested feature needs and that is not installed."""


class UnsavedResults(UserError):
    """Results that could not be written to their file; a caller still finds them in `results`."""

    def __init__(self, message: str, results: JsonDict) -> None:
        super().__init__(message)
        self.results = results


def printable(text: str) -> str:
    r"""Return `text` with control characters escaped, such as "\\x1b"; line breaks stay.

    Marks that change the direction of writing and unpaired surrogates, which no encoding can print, are
    escaped too.
    """
    if text.isprintable():  # almost always, and without a loop over the characters
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
      kind: what the name would be the name of, such as "model".
      name: the unknown name.
      known: the known names.
      remedy: a further clause, such as how to register a name of one's own.
    """
    names = sorted(known)
    # Empty clauses are left out: "Unknown model 'x'; known: act, bc."
    clauses = [f"Unknown {kind} {name!r}", f"known: {', '.join(names) or 'none'}", remedy]
    return UserError(f"{'; '.join(filter(None, clauses))}.{did_you_mean(name, names)}")
