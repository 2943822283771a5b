"""Boundary around the parsers of untrusted files: a parser's exception becomes one `UserError`.

    path = regular_file("evil.pt", "checkpoint")         # refuses pipes, sockets and devices
    with guarded("The checkpoint 'evil.pt'", "use another checkpoint of the run"):
        payload = parse(path)

Each format has one such boundary, around everything that reads it. Everywhere else an exception that is not a
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
    """Turn any exception of the block into one UserError: "<source> cannot be read (...); <remedy>."."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Every type: parsers raise a dozen of them for damaged files, and a library's next release others.
        raise UserError(f"{source} cannot be read ({reason(error)}); {remedy}.") from error


def reason(error: BaseException) -> str:
    """Return an error's message in a few words, to stand in a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without the errno and the path, which the sentence has
    lines = str(error).strip().splitlines()
    text = lines[0].rstrip(".;:") if lines else ""
    name = type(error).__name__
    if not text or isinstance(error, KeyError):  # str(KeyError("x")) is only "'x'"
        return f"{name} {text}".strip()
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def regular_file(path: str | Path, kind: str, *, folder: bool = False) -> Path:
    """Return `path`, unless it is a pipe, a device or a socket: reading one may block forever.

    A path that does not exist is returned too: whoever opens it raises a more precise error.

    Args:
      path: what a user named.
      kind: what the error calls it, such as "checkpoint".
      folder: accept a folder too.

    Raises:
      UserError: it is a pipe, a device, a socket or a folder, or no path at all.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a name that holds a zero byte
        raise UserError(f"{str(path)!r} is not the path of a {kind} ({error}).") from error
    except OSError:  # it does not exist, or its folder cannot be searched
        return path
    if stat.S_ISREG(mode) or (folder and stat.S_ISDIR(mode)):
        return path
    found = _KINDS.get(stat.S_IFMT(mode), "something else")
    raise UserError(f"{str(path)!r} is {found}, and a {kind} is a file; write it to one.")
