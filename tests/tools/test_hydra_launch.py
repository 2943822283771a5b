"""Of Hydra: its values, and its launchers; nothing else."""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from simscaleai.errors import UserError

pytest.importorskip("hydra")

from simscaleai.tools.hydra_launch import launch, parse_words


def test_values_and_combinations() -> None:
    words = parse_words(["model.hidden_dim=8,16", "seed=range(0,3)", "trainer.lr=1e-3", "name=x"])
    combinations = list(words.combinations())
    assert [c["model.hidden_dim"] for c in combinations] == [8, 8, 8, 16, 16, 16]
    assert [c["seed"] for c in combinations] == [0, 1, 2, 0, 1, 2]
    assert all(c["trainer.lr"] == 0.001 and c["name"] == "x" for c in combinations)
    assert list(parse_words([]).combinations()) == [{}]


def test_the_loggers_of_the_program_stay_on(tmp_path: Path) -> None:
    logger = logging.getLogger("simscaleai.tools.hydra_launch.test")
    launch(partial(leave, tmp_path), [0], tmp_path, "basic")
    assert not logger.disabled


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a,b", ["a", "b"]),
        ("choice(1e-3,1e-4)", [0.001, 0.0001]),
        ("range(0.1,0.5,0.1)", [0.1, 0.2, 0.3, 0.4]),
        ("'a, b','c d'", ["a, b", "c d"]),
        ("data/a.h5,/b/c.h5", ["data/a.h5", "/b/c.h5"]),
        ("null,true,1", [None, True, 1]),
        ("[1,'b']", [[1, "b"]]),
        ("[1],[2,3]", [[1], [2, 3]]),
        ("{a: '1'}", [{"a": "1"}]),
    ],
)
def test_what_a_value_may_be(value: str, expected: list[object]) -> None:
    assert parse_words([f"key={value}"]).values == {"key": expected}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed", "'seed' cannot be read"),
        ("seed=(1", "cannot be read"),
        ("seed=interval(0,1)", "cannot be read"),
        ("seed=glob(*)", "cannot be read"),
        ("+seed=1", "not an override"),
        ("~seed", "not an override"),
        ("model@other=bc", "not an override"),
        ("seed=range(3,3)", "gives no value"),
        ("seed=${oc.env:HOME}", "refers to another value"),
        ("hydra.launcher.n_jobs=${oc.env:HOME}", "refers to another value"),
        ("hydra.launcher._target_=os.system", "takes hydra/launcher and"),
        ("hydra.searchpath=[/tmp]", "takes hydra/launcher and"),
        ("hydra/sweeper=basic", "takes hydra/launcher and"),
    ],
)
def test_other_words_are_refused(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse_words([word])
    assert "\n" not in str(error.value)


def test_words_for_the_launcher_are_passed_through() -> None:
    words = parse_words(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1"])
    assert (words.launcher, words.options) == ("joblib", ["hydra.launcher.n_jobs=2"])
    assert words.values == {"seed": [1]}


def leave(folder: Path, number: int) -> None:
    (folder / f"{number}.txt").write_text("done")


@pytest.mark.parametrize("numbers", [[3], [0, 2, 5]])
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_every_number_is_run_once(launcher: str, numbers: list[int], tmp_path: Path) -> None:
    options = []
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
        options = ["hydra.launcher.n_jobs=2"]
    folder = tmp_path / "it's, {odd}"
    folder.mkdir()
    launch(partial(leave, folder), numbers, folder / "hydra", launcher, options)
    assert sorted(int(path.stem) for path in folder.glob("*.txt")) == numbers
    left = {path.name for path in folder.iterdir() if path.suffix != ".txt"}
    assert left == {"hydra"}


@pytest.mark.parametrize(
    ("launcher", "options", "message"),
    [
        ("bsic", [], "Unknown launcher 'bsic'.*Did you mean 'basic'"),
        ("rq", [], "needs the package hydra-rq-launcher"),
        ("basic", ["hydra.launcher.n_jobs=2"], "'basic' did not start.*n_jobs"),
    ],
)
def test_a_wrong_launcher_starts_nothing(launcher, options, message, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        launch(partial(leave, tmp_path), [1], tmp_path, launcher, options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.txt"))


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_launcher_that_breaks_off_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = ["hydra.launcher.n_jobs=2"]
    with pytest.raises(UserError, match="'joblib' broke off: TerminatedWorkerError") as error:
        launch(die, [0, 1], tmp_path, "joblib", options)
    assert "\n" not in str(error.value)


def test_without_hydra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hydra", None)
    with pytest.raises(UserError, match=r"hydra-core, .*simscaleai\[sweep\]"):
        parse_words(["seed=0,1"])
