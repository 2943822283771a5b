"""Two workers started from every kind of program: it works, or one sentence says why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GENERATE = """
from simscaleai.datagen import generate_dataset
print("made", generate_dataset(
    NAME, 4, "o.h5", policy_type="scripted", workers=2, max_steps=3, show_progress=False
)["total_episodes"])
"""
BUILT_IN = GENERATE.replace("NAME", "'reach'")
CLASS = """
from simscaleai.sim.tasks.reach import Reach
class Mine(Reach):
    pass
"""
REGISTER = """
from simscaleai.sim import register_env
register_env("mine", Mine)
"""
OWN = GENERATE.replace("NAME", "'mine'")
DEFINED = CLASS + REGISTER + OWN
SHARDS = DEFINED.replace("'mine', 4, \"o.h5\"", "'mine', 4, 'o.h5', shard_episodes=2")
EVALUATION = (
    CLASS
    + REGISTER
    + """
from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
settings = SourceEvaluation(env_name="mine", n_episodes=4, workers=2, executor="processes")
evaluate_source("scripted", settings)
"""
)
TASK = """
from simscaleai.executors import Processes
def double(item):
    return 2 * item
print("made", sum(Processes(2, needs_main=True).run(double, range(3))))
"""
FAILING = TASK.replace("print", "if __name__ != '__main__':\n    raise SystemExit(3)\nprint")
GUARDED = CLASS + REGISTER + 'if __name__ == "__main__":' + OWN.replace("\n", "\n    ")
IN_FUNCTION = (
    "def f():" + CLASS.replace("\n", "\n    ") + "return Mine\nMine = f()" + REGISTER + OWN
)
IMPORTED = "from defines import Mine" + REGISTER + OWN


def run(folder: Path, how: str, text: str) -> tuple[int, str, str]:
    """Exit code, output, and the last line of complaint of a program run in `folder`."""
    (folder / "defines.py").write_text(CLASS)
    (folder / "program.py").write_text(text)
    words = {"file": ["program.py"], "-c": ["-c", text], "stdin": ["-"]}[how]
    ended = subprocess.run(
        [sys.executable, *words],
        input=text if how == "stdin" else None,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,  # of a busy machine
    )
    left = {path.name for path in folder.glob("o.h5*")}
    assert left == ({"o.h5"} if ended.returncode == 0 else set())
    assert ended.stderr.count("Traceback") <= 1  # of the program that was started
    return ended.returncode, ended.stdout, ended.stderr.strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        pytest.param("file", IMPORTED, id="unguarded"),
        *(
            pytest.param(*case, marks=pytest.mark.slow, id=name)
            for name, case in {
                "built in": ("file", BUILT_IN),
                "-c": ("-c", BUILT_IN),
                "stdin": ("stdin", IMPORTED),
                "guarded": ("file", GUARDED),
            }.items()
        ),
    ],
)
def test_it_works(tmp_path: Path, how: str, text: str) -> None:
    assert run(tmp_path, how, text) == (0, "made 4\n", "")


@pytest.mark.parametrize(
    ("how", "text", "reason"),
    [
        pytest.param("file", TASK, "under `if __name__ ==", id="any task"),
        *(
            pytest.param("file", text, "under `if __name__ ==", id=name, marks=pytest.mark.slow)
            for name, text in {
                "one file": DEFINED,
                "shards": SHARDS,
                "evaluation": EVALUATION,
            }.items()
        ),
        pytest.param("file", FAILING, "ended by itself (exit code 3)", id="cannot be imported"),
        pytest.param(
            "stdin", DEFINED, "a program that is no file", id="stdin", marks=pytest.mark.slow
        ),
        pytest.param(
            "file", IN_FUNCTION, "inside a function", id="function", marks=pytest.mark.slow
        ),
    ],
)
def test_it_is_refused(tmp_path: Path, how: str, text: str, reason: str) -> None:
    code, _, complaint = run(tmp_path, how, text)
    assert code == 1
    assert complaint.startswith("simscaleai.errors.UserError: ")
    assert reason in complaint


EVERYTHING = """
    from simscaleai.datagen import generate_dataset
    from simscaleai.datagen.rerender import render_dataset
    from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
    settings = dict(env_name="mine", n_episodes=4, num_envs=2, show_progress=False)
    alone = evaluate_source("scripted", SourceEvaluation(**settings))
    spread = evaluate_source("scripted", SourceEvaluation(**settings, workers=2, executor="processes"))
    assert alone["episodes"] == spread["episodes"]
    generate_dataset("mine", 4, "o.h5", "scripted", max_steps=3, show_progress=False)
    render_dataset("o.h5", "r.h5", ["front_cam"], 16, workers=2, show_progress=False)
    print("made", len(spread["episodes"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("text", [CLASS, "from defines import Mine"], ids=["guarded", "imported"])
def test_evaluation_and_drawing_too(tmp_path: Path, text: str) -> None:
    text += REGISTER + 'if __name__ == "__main__":' + EVERYTHING
    assert run(tmp_path, "file", text) == (0, "made 4\n", "")
