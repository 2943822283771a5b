"""Feed a program mutated inputs, in processes of their own, and watch time and memory.

A case is a number: it seeds the mutation, so that every failure can be had again by itself. A child process
makes and uses one case after the other and says where it is; the parent kills it where one takes too long,
and starts another behind the case that ended it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simscaleai.errors import UserError

SECONDS = 20.0
MEMORY = 2**30  # bytes of one case
ADDRESSES = 4 * 2**30  # bytes that a child may have besides; keeps the machine safe

Make = Callable[[np.random.Generator, Path], Path]
Use = Callable[[Path], None]


def run(make: Make, use: Use, seed: int, count: int, folder: Path) -> dict[str, Any]:
    """Counts of outcomes, and what was wrong, one entry for each case that failed.

    Returns:
      {"cases", "accepted", "refused", "failures": [{"case", "what", "detail"}]}.
    """
    failures: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    done = 0
    while done < count:
        done = _child(make, use, seed, done, count, folder, counts, failures)
    return {"cases": count, **counts, "failures": failures}


def _child(
    make: Make,
    use: Use,
    seed: int,
    start: int,
    count: int,
    folder: Path,
    counts: Counter[str],
    failures: list[dict[str, Any]],
) -> int:
    """Run cases from `start` in a child until all are done or it ends; the number of the next case."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _work(make, use, seed, start, count, folder, writer)
        finally:
            os._exit(0)
    os.close(writer)
    case, began, buffer = start, time.monotonic(), b""
    problem = ""
    while True:
        ready, _, _ = select.select([reader], [], [], 0.5)
        if not ready:
            if time.monotonic() - began > SECONDS:
                problem = f"took more than {SECONDS} s"
                os.kill(child, signal.SIGKILL)
                break
            continue
        part = os.read(reader, 2**16)
        if not part:
            break
        *lines, buffer = (buffer + part).split(b"\n")
        for line in lines:
            case, outcome, detail = json.loads(line)
            counts[outcome if outcome in ("accepted", "refused") else "failed"] += 1
            if outcome not in ("accepted", "refused"):
                failures.append({"case": case, "what": outcome, "detail": detail})
            case, began = case + 1, time.monotonic()
    os.close(reader)
    status = os.waitpid(child, 0)[1]
    if case < count:
        signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        problem = problem or f"ended the process (signal {signal_number})"
        failures.append({"case": case, "what": problem, "detail": ""})
        counts["failed"] += 1
        case += 1
    return case


def _work(
    make: Make, use: Use, seed: int, start: int, count: int, folder: Path, writer: int
) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESSES, size + ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for case in range(start, count):
        outcome = _case(make, use, seed, case, folder)
        os.write(writer, json.dumps([case, *outcome]).encode() + b"\n")


def _case(make: Make, use: Use, seed: int, case: int, folder: Path) -> tuple[str, str]:
    place = folder / str(case)
    place.mkdir()
    path = make(np.random.default_rng([seed, case]), place)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = peak()
    try:
        outcome, detail = "accepted", ""
        use(path)
    except UserError as error:
        outcome, detail = ("several lines" if "\n" in str(error) else "refused"), str(error)
    except MemoryError as error:
        outcome, detail = "MemoryError", "".join(traceback.format_exception(error)[-3:])
    except BaseException as error:
        outcome, detail = type(error).__name__, "".join(traceback.format_exception(error)[-6:])
    if peak() - before > MEMORY:
        outcome, detail = f"took {(peak() - before) // 2**20} MiB", detail
    if outcome in ("accepted", "refused"):
        shutil.rmtree(place)
    return outcome, detail[-3000:]


def peak() -> int:
    """The most memory that this process has had since it was forgotten, in bytes."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return 1024 * int(match[1])


def main(make: Make, use: Use) -> None:
    """`python FORMAT.py FOLDER SEED COUNT [CASE]`: print the result as JSON, or run one case here."""
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if len(sys.argv) > 4:
        path = make(np.random.default_rng([seed, int(sys.argv[4])]), folder)
        use(path)
        return
    began = time.monotonic()
    result = run(make, use, seed, count, folder)
    print(json.dumps({**result, "seconds": round(time.monotonic() - began, 1)}))
