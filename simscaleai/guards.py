"""The boundary around parsers of untrusted files: what they raise is one sentence, and none is waited for.

    path = regular_file("evil.pt", "checkpoint")         # refuses what would be waited for
    with guarded("The checkpoint 'evil.pt'", "use another checkpoint of the run"):
        payload = parse(path)

There is one such boundary for each format, around all that reads it. Everywhere else an error that is no
`UserError` is a defect.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simscaleai.errors import UserError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_LONGEST_REASON = 200  # characters


@contextmanager
def guarded(source: str, remedy: str) -> Iterator[None]:
    """Raise whatever goes wrong in the block as one UserError: "<source> cannot be read (...); <remedy>.".

    Parsers raise a dozen types for a file that is not what it seems, and the next release of a library has
    others; so this takes all of them.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{source} cannot be read ({reason(error)}); {remedy}.") from error


def reason(error: BaseException) -> str:
    """What an error says in a few words, for a sentence about it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    text = lines[0].rstrip(".;:") if lines else ""
    name = type(error).__name__
    if not text or isinstance(error, KeyError):
        return f"{name} {text}".strip()
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def regular_file(path: str | Path, kind: str, *, folder: bool = False) -> Path:
    """Return `path` unless there is something at it that is no file.

    A pipe, a device or a socket is waited for, maybe for ever. What is not there passes: whoever opens it
    says so in words of its own.

    Args:
      path: what a user named.
      kind: what the error calls it, such as "checkpoint".
      folder: let a folder pass too.

    Raises:
      UserError: it is a pipe, a device, a socket or a folder, or no path at all.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a name that holds a zero byte
        raise UserError(f"{str(path)!r} is not the path of a {kind} ({error}).") from error
    except OSError:
        return path
    if stat.S_ISREG(mode) or (folder and stat.S_ISDIR(mode)):
        return path
    found = _KINDS.get(stat.S_IFMT(mode), "something else")
    raise UserError(f"{str(path)!r} is {found}, and a {kind} is a file; write it to one.")
