"""Boundaries around parsers: one sentence, no waiting, and no commands to the terminal in names."""

from __future__ import annotations

import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simscaleai.config import load_config
from simscaleai.errors import MissingFileError, UserError, printable
from simscaleai.guards import guarded, regular_file
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.settings import RLConfig
from simscaleai.sim import make_env
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.cli import main
from simscaleai.training.run_config import load_run


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        RuntimeError("a\nb"),
        MemoryError(),
        RecursionError("deep"),
        OSError(5, "Input"),
    ],
)
def test_whatever_a_parser_raises_is_one_sentence(error: Exception) -> None:
    with pytest.raises(UserError) as found, guarded("The file 'x'", "use another"):
        raise error
    text = str(found.value)
    assert text.startswith("The file 'x' cannot be read (") and text.endswith("; use another.")
    assert "\n" not in text and found.value.__cause__ is error


def test_own_errors_and_interrupts_pass() -> None:
    with pytest.raises(UserError, match=r"^own$"), guarded("x", "y"):
        raise UserError("own")
    with pytest.raises(KeyboardInterrupt), guarded("x", "y"):
        raise KeyboardInterrupt


READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint": load_checkpoint,
    "policy": lambda path: ModelPolicy.from_checkpoint(path, "cpu"),
    "dataset": open_dataset,
    "run": load_run,
    "settings": lambda path: load_config(RLConfig, path),
    "scene": lambda path: make_env("reach", xml_path=str(path), cameras=[]),
}


@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders")
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_pipes_sockets_and_devices_are_not_waited_for(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path in (pipe, tmp_path / "link", tmp_path / "socket", Path("/dev/zero")):
            with pytest.raises(UserError, match=r"is a (named pipe|socket|device), and a "):
                read(path)
    with pytest.raises(UserError, match=r"null|path"):
        read(Path("a\0b"))


def test_what_is_not_there_is_for_others_to_say(tmp_path: Path) -> None:
    assert regular_file(tmp_path / "no", "dataset") == tmp_path / "no"
    with pytest.raises(MissingFileError):
        open_dataset(tmp_path / "no")


def test_names_hold_no_commands_to_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[31m\x9b2J\u202e\u2028\ud800"
    for text in (printable(evil), str(UserError(evil)), str(MissingFileError(evil))):
        assert text.isprintable() and text.startswith("\\x1b]0;title\\x07")
    assert printable("größer\n≥ 1 µm") == "größer\n≥ 1 µm"
    assert all(
        unicodedata.category(c)[0] != "C" for c in printable("".join(map(chr, range(32, 160))))
    )


def test_what_a_command_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder and a file with escapes, a line break and Rich's markup in their names."""
    folder = tmp_path / "[red]x\x1b[31m\n[bold]"
    folder.mkdir()
    (folder / "a.h5").write_bytes(b"no")
    for words in (["validate", str(folder / "a.h5")], ["eval", str(folder / "no.pt")]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capfd.readouterr().err
        assert ended.value.code == 2
        assert "\x1b" not in said and len(said.splitlines()) == 1
        assert "[red]x\\x1b[31m" in said
