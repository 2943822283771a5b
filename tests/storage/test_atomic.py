from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simscaleai.storage.atomic import (
    atomic_path,
    leftovers,
    remove_folder,
    replace_folder,
    temporary_for,
)


def test_file_appears_whole_and_creates_its_folder(tmp_path: Path) -> None:
    final = tmp_path / "new" / "out.bin"
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"abc")
        assert temporary.parent == final.parent
        assert not final.exists()
    assert final.read_bytes() == b"abc"
    assert os.listdir(final.parent) == ["out.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_block_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    final = tmp_path / "out.bin"
    final.write_bytes(b"old")
    with pytest.raises(error), atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert final.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "out.bin"):
        pass
    assert os.listdir(tmp_path) == []


def test_killed_writer_leaves_the_old_file_and_one_leftover(tmp_path: Path) -> None:
    final = tmp_path / "out.bin"
    final.write_bytes(b"old")
    code = (
        "import os, signal, sys\n"
        "from simscaleai.storage.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t:\n"
        "    t.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(final)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert final.read_bytes() == b"old"
    (left,) = leftovers(final)
    assert left.read_bytes() == b"half"


def test_folder_replaces_folder_as_a_whole(tmp_path: Path) -> None:
    final, new = tmp_path / "step_1", tmp_path / ".step_1.tmp"
    for content in ("old", "new"):
        new.mkdir()
        (new / content).write_text(content)
        replace_folder(new, final)
        assert [p.name for p in final.iterdir()] == [content]
    remove_folder(final)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_are_of_this_file_only(tmp_path: Path) -> None:
    (tmp_path / ".a.h5.1234.tmp").touch()
    (tmp_path / ".b.h5.1234.tmp").touch()
    (tmp_path / "a.h5.tmp").touch()
    assert [p.name for p in leftovers(tmp_path / "a.h5")] == [".a.h5.1234.tmp"]
    assert leftovers(tmp_path / "absent" / "a.h5") == []


def test_what_killed_processes_left_goes_away(tmp_path: Path) -> None:
    """With the next file in the folder, whatever its name; what a live process writes stays."""
    script = (
        "import os, sys; from pathlib import Path\n"
        "from simscaleai.storage.atomic import atomic_path, temporary_for\n"
        "folder = Path(sys.argv[1])\n"
        "temporary_for(folder / 'step_5').mkdir()\n"
        "with atomic_path(folder / 'a.pt') as temporary:\n"
        "    temporary.write_text('half'); os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    own, foreign = temporary_for(tmp_path / "own"), tmp_path / ".vim.swp.tmp"
    elsewhere = tmp_path / ".b.pt.00000000-1-01234567.tmp"
    for path in (own, foreign, elsewhere):
        path.touch()
    with atomic_path(tmp_path / "other.txt") as temporary:
        temporary.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([own, foreign, elsewhere, tmp_path / "other.txt"])
