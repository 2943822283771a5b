"""Finished episodes of an evaluation in a file, each written as it ends.

    with EpisodeLog(Path("eval_info_final_reach_100_seed0.partial.jsonl"), identity) as log:
        for result in run([i for i in range(100) if i not in log.finished]):
            log.append(result)
        log.delete()                        # once the results are in a file of their own

The first line has the identity of the evaluation, and each further one an `EpisodeResult`. A process that is
killed leaves the file behind, perhaps with half a line at its end; the next evaluation of the same identity
reads what is whole and goes on from there. Of another identity nothing is read, and the file is replaced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from simscaleai.convert import plain
from simscaleai.evaluation.summary import Metrics
from simscaleai.guards import regular_file
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.storage.lock import FolderLock

SUFFIX = ".partial.jsonl"
_LONGEST_LINE = 100_000  # characters; a file of ours has none as long
_FIELDS = {field.name: field for field in fields(EpisodeResult)}
# the types of an entry in JSON; a float may be written as a whole number
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bool | None": (bool, type(None)),
    "str | None": (str, type(None)),
}


class EpisodeLog:
    """See the module docstring.

    Args:
      path: the file; its folder is created.
      identity: what the episodes depend on, as plain values.

    Attributes:
      finished: {index: result} of the episodes in the file.

    Raises:
      UserError: another process writes to the file, or there is a folder or a pipe in its place; raised by
        `with`.
    """

    def __init__(self, path: Path, identity: Metrics) -> None:
        self.path = path
        # tuples become lists in the file
        self._identity = json.loads(json.dumps(plain(identity)))
        self._lock = FolderLock(
            path.parent, "running the evaluation of", path.name, file=f".{path.name}.lock"
        )
        self.finished: dict[int, EpisodeResult] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self._lock.take()
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.release()

    def append(self, result: EpisodeResult) -> None:
        """Write one episode; it survives the end of this process, however that comes."""
        assert self._file is not None
        self.finished[result.index] = result
        self._write_line(result.to_dict())

    def delete(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()  # Windows cannot remove an open file
        self.path.unlink(missing_ok=True)

    def _write_line(self, values: Mapping[str, object]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(plain(values)) + "\n")
        self._file.flush()  # to the system: fsync would guard against a power failure, at every episode

    def _open(self) -> None:
        """Read what is there and go on after its last whole line, or begin anew."""
        regular_file(self.path, "log of an evaluation")  # a pipe would be waited for
        end = self._read()
        self._file = self.path.open("r+" if end else "w", encoding="utf-8")
        if end:
            os.ftruncate(self._file.fileno(), end)
            self._file.seek(end)
        else:
            self._write_line(self._identity)

    def _read(self) -> int:
        """Read the episodes; return the bytes up to the last whole line, 0 if the file is of no use."""
        end = 0
        for position, values in _lines(self.path):
            if end == 0:
                if values != self._identity:
                    return 0
            elif (result := _episode(values)) is not None:
                self.finished[result.index] = result
            else:
                break
            end = position
        return end


def is_of(path: Path, identity: Metrics) -> bool:
    """Return whether a log belongs to this identity."""
    first = next(_lines(path), (0, None))[1]
    return bool(first == json.loads(json.dumps(plain(identity))))


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the whole lines of a file, each with the position of its end in bytes."""
    position = 0
    if not path.is_file():  # nothing, or a pipe, which would be waited for
        return
    # a file that is no log ends the loop where that shows
    with suppress(OSError, ValueError, RecursionError), path.open("rb") as file:
        while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
            position += len(line)
            yield position, json.loads(line)


def _episode(values: object) -> EpisodeResult | None:
    """Return the episode of a line; None if it is none."""
    if not isinstance(values, dict) or not values.keys() <= _FIELDS.keys():
        return None
    for name, value in values.items():
        # bool is an int in Python, but not here
        if type(value) not in _TYPES[str(_FIELDS[name].type)]:
            return None
    try:
        return EpisodeResult(**values)
    except TypeError:  # an entry is missing
        return None
