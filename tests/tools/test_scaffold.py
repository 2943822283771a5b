"""`simscale new` writes packages that pass their own tests and work in every command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from simscaleai.errors import ExistingFileError, UserError
from simscaleai.tools.scaffold import KINDS, write_package

REPOSITORY = Path(__file__).parents[2]


def run(project: Path, *words: str, others: Sequence[Path] = ()) -> str:
    """Run Python in a package's folder, with `others` beside it; return what it printed."""
    path = os.pathsep.join(map(str, [REPOSITORY, project, *others]))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_new_packages_pass_their_own_tests(tmp_path: Path) -> None:
    """All of them in one process, which takes longer to start than to test."""
    folders = [tmp_path / f"my_{kind}5" for kind in KINDS]
    for kind, folder in zip(KINDS, folders, strict=True):
        commands = write_package(kind, folder.name, tmp_path)
        assert all(command.startswith("simscale ") for command in commands)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    tests = [str(folder / "tests") for folder in folders]
    out = run(folders[0], *words, *tests, others=folders[1:])
    assert f"{2 * len(KINDS)} passed" in out
    assert sorted(tmp_path.iterdir()) == sorted(folders)  # nothing is left over


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_printed_commands_run(kind: str, tmp_path: Path) -> None:
    project = tmp_path / "mine5"
    for command in write_package(kind, "mine5", tmp_path):
        # fewer episodes and steps; viz-env would wait for a window
        short = command.replace("4000", "20").replace("2000", "20").replace("200", "4")
        if "viz-env" not in short:
            run(project, "-m", "simscaleai.tools.cli", *short.replace("100", "4").split()[1:])


@pytest.mark.slow
def test_a_new_task_works_in_every_command(tmp_path: Path) -> None:
    project = tmp_path / "push5"
    write_package("task", "push5", tmp_path)
    simscale = ("-m", "simscaleai.tools.cli")
    for words in (
        "list-envs --import push5",
        "datagen --import push5 --env-name push5 --n-episodes 6 --workers 2 --randomize -o d.h5",
        "validate d.h5 --import push5",
        "train --import push5 --dataset d.h5 --max-steps 20 --eval-env-episodes 2 --name a",
        "eval --import push5 runs/a/checkpoints/final.pt --n-episodes 2",
        "eval --import push5 scripted --env-name push5 --n-episodes 2",
        "rl --import push5 --env-name push5 --num-envs 4 --total-steps 64 agent.n_steps=8 eval_episodes=2",
        "viz-cameras --import push5 --env-name push5 --save cameras.png",
        "viz-env --import push5 --env-name push5 --n-steps 4 --size 64 --save rollout.png",
        "viz-env --import push5 --policy a --n-steps 4 --size 64 --save policy.png",
        "viz-dataset --import push5 d.h5 --save dataset.png",
    ):
        run(project, *simscale, *words.split())
    for image in ("cameras.png", "rollout.png", "policy.png"):
        assert (project / image).stat().st_size > 1_000


def test_names_that_cannot_be_a_package_are_refused(tmp_path: Path) -> None:
    for name in ("Push", "1push", "push-it", "class", "../push", ""):
        with pytest.raises(UserError, match="cannot be that of a package"):
            write_package("task", name, tmp_path)
    with pytest.raises(UserError, match="'json' can be imported already"):
        write_package("task", "json", tmp_path)
    with pytest.raises(UserError, match="There is a robot 'panda' already"):
        write_package("robot", "panda", tmp_path)
    with pytest.raises(UserError, match="kind of package 'tsak'"):
        write_package("tsak", "push5", tmp_path)
    (tmp_path / "push5").mkdir()
    with pytest.raises(ExistingFileError, match="push5 exists already"):
        write_package("task", "push5", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["push5"]
