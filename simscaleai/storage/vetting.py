"""Open untrusted HDF5 files in a child process first.

If a few bytes of a file's structure are wrong, the HDF5 library can loop forever, crash or allocate
gigabytes, and the process that called it cannot stop it. Therefore a child process first opens every
object, reads every attribute and looks up every chunk, with limits on memory and on time without progress.
If it fails, the file is refused.

A file is vetted once per process, and again after it has changed; one that this process has written itself,
only after it has changed. Files larger than `MAX_BYTES` are not vetted, which would take too long, nor are
files on systems other than Linux, where a process with threads cannot be forked.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import h5py
from h5py import h5a, h5d, h5g, h5o

from simscaleai.errors import UserError
from simscaleai.storage.hdf5 import SafeFile

MAX_BYTES = 32 * 2**20
SECONDS = 5.0  # of the child's processor time without progress: on a busy machine it takes longer
_PATIENCE = 12  # times as long on the clock
MEMORY = 2**30  # bytes beyond what this process has
_MAX_DEPTH = 8
_GOOD, _TOO_LARGE = b"+", b"!"

# {identity of a file: its problem, "" for none}
_verdicts: dict[tuple[int, ...], str] = {}
# identities without the time of the last rename, which follows: files written here and not yet read
_own: set[tuple[int, ...]] = set()


def vet(path: str | Path) -> None:
    """Open an HDF5 file in a child process, unless this was done before.

    Raises:
      UserError: the child hung, crashed or used too much memory.
    """
    _vet(path, partial(_read_structure, Path(path)))


def vet_with(path: str | Path, parse: Callable[[], object]) -> None:
    """Do the same for a file of another format, which `parse` reads."""
    _vet(path, lambda writer: parse())


def trust(path: str | Path) -> None:
    """Take a file that this process has just written as vetted, until it is changed."""
    _own.add(_identity(os.stat(path))[:-1])


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _vet(path: str | Path, read: Callable[[int], object]) -> None:
    """Run `read` in a child process; it may write heartbeats to the descriptor that it is given."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return  # the caller's attempt to open it reports the problem
    identity = _identity(stat)
    if stat.st_size > MAX_BYTES or sys.platform != "linux":
        return
    if identity not in _verdicts:
        own = identity[:-1] in _own
        _own.discard(identity[:-1])  # once: from here on its whole identity counts
        _verdicts[identity] = "" if own else _problem(read)
    if problem := _verdicts[identity]:
        raise UserError(
            f"{path} is damaged or hostile: reading its structure {problem}; the file is refused."
        )


def _problem(read: Callable[[int], object]) -> str:
    """Run the child; return how it failed, as the end of a sentence, or "" if it succeeded."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python warns that other threads may hold locks. h5py and the C library take theirs before a fork
        # and release them in the child, which uses no others.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # it must never return into the caller's code
        try:
            _child(read, writer)
        finally:
            os._exit(0)
    os.close(writer)
    last = b""
    try:
        while _heard(reader, child):
            received = os.read(reader, 4096)
            if not received:
                break
            last = received[-1:]
        else:
            os.kill(child, signal.SIGKILL)
            return f"makes no progress for {SECONDS:g} s"
    finally:
        os.close(reader)
        status = os.waitpid(child, 0)[1]
    if last == _TOO_LARGE:
        return f"takes more than {MEMORY // 2**20} MiB of memory"
    if os.WIFSIGNALED(status):
        return f"ends the program (signal {os.WTERMSIG(status)})"
    return "" if last == _GOOD else "ends the program"


def _heard(reader: int, child: int) -> bool:
    """Wait for a heartbeat or the end of the child; False if it makes no progress."""
    _, before = _state(child)
    for _ in range(_PATIENCE):
        if select.select([reader], [], [], SECONDS)[0]:
            return True
        state, busy = _state(child)
        # asleep, it waits for something that will not come; else it may wait for a processor
        if state == "S" or busy - before > 0.9 * SECONDS:
            return False
    return False


def _state(process: int) -> tuple[str, float]:
    """Return the state of a child that has not been waited for, and the seconds that it has run."""
    # after the name, which may hold anything: the state, and in fields 11 and 12 user and system time
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _child(read: Callable[[int], object], writer: int) -> None:
    """Do everything that the parent may do with the file, within limits."""
    import resource  # Windows has no such module

    gc.disable()  # what it would delete may wait for threads, of which a fork has none
    faulthandler.disable()  # the parent reports a crash
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # messages of a crash, such as glibc's, would go to the user's terminal
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core dump
    try:
        read(writer)
    except Exception as error:
        # The parent will get the same error and report it, unless memory is lacking.
        os.write(writer, _TOO_LARGE if _of_memory(error) else _GOOD)
        return
    os.write(writer, _GOOD)


def _read_structure(path: Path, writer: int) -> None:
    """Open every object of an HDF5 file; write a byte to `writer` as a heartbeat."""
    with SafeFile(path) as file:
        for i, _ in enumerate(_objects(file, file.root, 0, set())):
            if i % 64 == 0:
                os.write(writer, b".")


def _of_memory(error: BaseException | None) -> bool:
    """Return whether lack of memory caused an error."""
    # HDF5 reports it as "can't allocate" or "memory allocation failed"
    while error is not None:
        if isinstance(error, MemoryError) or "alloc" in str(error):
            return True
        error = error.__cause__
    return False


def _objects(
    file: SafeFile, group: h5g.GroupID, depth: int, visited: set[int]
) -> Iterator[h5py.h5i.ObjectID]:
    """Read attributes and look up chunks of every object below `group` once; yield at each as a heartbeat."""
    _attributes(file, group)
    for name in file.names(group):
        yield group
        try:
            if file.is_group(group, name, name):
                child = file.group(group, name, name)
                address = h5o.get_info(child).addr
                if depth < _MAX_DEPTH and address not in visited:
                    visited.add(address)
                    yield from _objects(file, child, depth + 1, visited)
            else:
                _dataset(file, group, name)
        except UserError as error:
            if _of_memory(error):
                raise


def _attributes(file: SafeFile, obj: h5py.h5i.ObjectID) -> None:
    for i in range(h5a.get_num_attrs(obj)):
        try:
            file.attribute(obj, h5a.open(obj, index=i).name.decode(), "/")
        except (UserError, OSError, KeyError, RuntimeError, UnicodeError) as error:
            if _of_memory(error):
                raise


def _dataset(file: SafeFile, group: h5g.GroupID, name: str) -> None:
    found = h5o.open(group, name.encode())
    if not isinstance(found, h5d.DatasetID):
        return
    _attributes(file, found)
    try:
        file.chunks(file.dataset(group, name, name), name)
    except UserError:
        file.strings(group, name, name, 2**20)  # a mask is a list of names
