"""Thousands of damaged and hostile files of every kind: each is read, or refused in one sentence.

None ends the program, keeps it busy for 20 s or takes a gigabyte. `fuzzing/` makes them as a function of a
seed; `python tests/reliability/fuzzing/<kind>.py FOLDER SEED COUNT CASE` runs one of them again.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from tests import forked

SCRIPTS = Path(__file__).with_name("fuzzing")
FAST = 6  # of each kind, and half as many folders
SLOW = {
    "datasets": 5000,
    "checkpoints": 4000,
    "pretrained": 4000,
    "settings": 3500,
    "scenes": 3500,
    "lerobot_folders": 500,
}

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")


def fuzz(kind: str, seed: int, count: int, folder: Path) -> dict[str, Any]:
    script = [sys.executable, str(SCRIPTS / f"{kind}.py"), str(folder), str(seed), str(count)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _run_script(kind: str, seed: int, count: int, folder: Path) -> None:
    sys.argv = [kind, str(folder), str(seed), str(count)]
    try:
        with (folder / "said.json").open("w") as out, contextlib.redirect_stdout(out):
            runpy.run_path(str(SCRIPTS / f"{kind}.py"), run_name="__main__")
    except BaseException:
        (folder / "complaint.txt").write_text(traceback.format_exc())
        raise


def fuzz_in_a_fork(kind: str, seed: int, count: int, folder: Path) -> dict[str, Any]:
    """The same where everything is imported already, which would take longer than the files do."""
    if forked.exit_code(_run_script, kind, seed, count, folder, seconds=280):
        raise AssertionError((folder / "complaint.txt").read_text()[-3000:])
    return json.loads((folder / "said.json").read_text())


@linux
def test_some_of_every_kind(tmp_path: Path) -> None:
    found = fuzz_in_a_fork("everything", 0, FAST, tmp_path)
    assert set(found) == set(SLOW)
    for kind, result in found.items():
        assert not result["failures"], (kind, result["failures"][:3])
        assert result["refused"] > 0


@linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOW)
def test_many(kind: str, tmp_path: Path) -> None:
    count = SLOW[kind]
    found = fuzz(kind, 1, count, tmp_path)
    assert not found["failures"], json.dumps(found["failures"][:5], indent=2)
    assert found["refused"] + found.get("accepted", 0) == count


ENGINE = """
import os, sys
sys.path.insert(0, {folder!r})
import engine
from simscaleai.errors import UserError

def make(rng, folder):
    return folder / str(int(folder.name))

def use(path):
    case = int(path.name)
    if case == 1: raise UserError("no")
    if case == 2: raise KeyError("x")
    if case == 3: os.abort()
    if case == 4:
        while True: pass
    if case == 5: b"x" * (2**30 + 2**26)
    if case == 6: raise UserError("two\\nlines")

engine.SECONDS = 4.0
engine.main(make, use)
"""


@linux
@pytest.mark.slow
def test_the_watchdog_would_notice(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ENGINE.format(folder=str(SCRIPTS)))
    (tmp_path / "cases").mkdir()
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "cases"), "0", "8"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert (found["accepted"], found["refused"], found["failed"]) == (2, 1, 5)
    kinds = {f["case"]: f["what"] for f in found["failures"]}
    assert kinds[2] == "KeyError" and kinds[3] == "ended the process (signal 6)"
    assert kinds[4] == "took more than 4.0 s" and kinds[5].startswith("took 1")
    assert kinds[6] == "several lines"
