"""One process at a time: a lock that is held, given back, left behind, and inherited by nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simscaleai.errors import UserError
from simscaleai.storage.lock import FolderLock

HOLDER = """
import multiprocessing, sys, time
from pathlib import Path
from simscaleai.storage.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "at work in")
lock.take()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_the_second_one_is_told_and_the_first_one_gives_back(tmp_path: Path) -> None:
    first, second = (FolderLock(tmp_path / "a", "at work in") for _ in range(2))
    first.take()
    first.take()
    with pytest.raises(UserError, match=rf"is at work in .*a \(process {os.getpid()}\); wait") as e:
        second.take()
    assert "\n" not in str(e.value)
    second.release()  # it has nothing to give back
    assert first.held and first.path.exists()
    first.release()
    second.take()
    second.release()
    assert list(tmp_path.iterdir()) == []  # the folder was made for the lock alone


@pytest.mark.skipif(os.name != "posix", reason="nothing is locked there")
def test_a_killed_process_leaves_no_lock_though_its_child_lives_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with pytest.raises(UserError, match=str(process.pid)):
            FolderLock(tmp_path, "at work in").take()
        process.kill()
        process.wait()
        os.kill(child, 0)  # it is still there
        lock = FolderLock(tmp_path, "at work in")
        lock.take()
        lock.release()
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_a_link_that_lies_in_wait_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    lock = FolderLock(tmp_path, "at work in")
    lock.path.symlink_to(tmp_path / "mine")
    with pytest.raises(OSError):
        lock.take()
    assert (tmp_path / "mine").read_text() == "precious"
