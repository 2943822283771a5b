"""Checks that refuse settings that need more memory than is free, in one sentence.

    require_memory(1000 * num_envs, f"num_envs={num_envs}")     # before the memory is allocated

Where the size of an allocation is cheap to compute, it is compared with the free memory first. Other
allocations fail in a library, each with its own exception; `out_of_memory` recognizes them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from simscaleai.errors import UserError

_UNKNOWN = 4096 * 2**20  # bytes; assumed where the system does not say
_WORDS = re.compile(
    r"bad_alloc|can't allocate memory|not enough memory|out of memory|[Uu]nable to allocate"
    r"|Cannot allocate memory|Could not allocate|array is too big|Maximum allowed dimension exceeded"
    r"|multiplication overflow|calculation overflowed|Invalid buffer size|cannot reserve"
)


def free_memory() -> int:
    """Return the bytes that this process can still allocate: the least of machine, container and `ulimit`."""
    free = _UNKNOWN
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    # A container's limit counts below the machine's memory; "max" stands for none (cgroup v2).
    limit = _lines("/sys/fs/cgroup/memory.max")
    if limit and limit[0].isdigit():
        for line in _lines("/sys/fs/cgroup/memory.stat"):
            if line.startswith("anon "):  # unlike the page cache, not reclaimable
                free = min(free, max(int(limit[0]) - int(line.split()[1]), 0))
    return min(free, _left_by_limit())


def require_memory(needed: float, what: str, remedy: str = "choose a smaller number") -> None:
    """Raise UserError if more memory is needed than is free.

    Args:
      needed: lower bound in bytes.
      what: the setting with its value, as the error names it.
      remedy: what the error advises.
    """
    free = free_memory()
    if needed > free:
        raise UserError(
            f"{what} needs at least {_size(needed)} of memory, and {_size(free)} are free; {remedy}."
        )


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error, of Python or a library, reports that an allocation failed."""
    if isinstance(error, MemoryError):
        return True
    # torch, h5py and MuJoCo raise general exceptions; their text is all there is to go by.
    return isinstance(error, RuntimeError | ValueError | OSError) and bool(
        _WORDS.search(str(error)) and not isinstance(error, UserError)
    )


def _left_by_limit() -> int:
    """Return the bytes that `ulimit -v` leaves."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 2**62
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = [int(text.split()[0]) for text in _lines("/proc/self/statm")]
    if limit == resource.RLIM_INFINITY or not taken:
        return 2**62
    return max(limit - taken[0] * os.sysconf("SC_PAGE_SIZE"), 0)


def _size(count: float) -> str:
    """Format a number of bytes: "3.6 GB"."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    power = min(max(len(f"{count:.0f}") - 1, 0) // 3, len(units) - 1)
    return f"{count / 1000**power:,.3g} {units[power]}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
