"""The command line: fast help, one sentence for a mistake, and commands that do what they print."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import typer

from simscaleai import __version__
from simscaleai.errors import UserError
from simscaleai.rl.settings import RLConfig
from simscaleai.tools import cli
from simscaleai.tools.app import app, with_flags
from simscaleai.tools.commands import data
from simscaleai.tools.console import table
from simscaleai.training import TrainConfig
from simscaleai.training.run_config import RunConfig

COMMANDS = ["list-envs", "list-models", "info", "datagen", "train", "sweep", "eval", "validate"]
COMMANDS += [
    "demo",
    "recipes",
    "config",
    "rl",
    "bench-loader",
    "viz-env",
    "viz-cameras",
    "viz-dataset",
    "viz-trajectory",
]
COMMANDS += ["viz-training", "viz-rl", "viz-video", "viz-live"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `simscale words`."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(words))
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


def test_help_imports_no_heavy_library() -> None:
    # Importing one of them takes up to seconds, which --help does not need.
    code = (
        "import sys\nfrom simscaleai.tools.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('imported', sorted({'torch', 'mujoco', 'numpy', 'matplotlib', 'warp'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "imported []"
    assert all(command in done.stdout for command in COMMANDS)


def test_output_of_another_encoding_loses_no_table(monkeypatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")  # redirected on Windows
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    table("\u00e4 \u2192 b", ["name"], [("\u2192",)])
    out.flush()
    assert b"\xe4 \\u2192 b" in out.buffer.getvalue()  # type: ignore[attr-defined]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"simscale {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"simscale {command}" in out.partition("Examples")[2]


@pytest.mark.parametrize("words", [[], ["train"], ["datagen"], ["data", "merge"]])
def test_help_is_brief_about_types(words: list[str], capsys) -> None:
    code, out, _ = run(capsys, *words, "-h")
    assert code == 0 and "--help" in out
    assert "<" not in out  # Typer shows <bool> and <int range>


def test_help_shows_defaults_and_where_all_settings_are(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # of Rich, which wraps
    train, rl = RunConfig(), RLConfig().complete()
    values = [train.model["name"], train.trainer.max_steps, train.trainer.batch_size]
    values += [train.optimizer.lr, train.seed, train.hardware.device, train.checkpoints.folder]
    out = run(capsys, "train", "--help")[1]
    values.append(train.eval.env_episodes)
    assert re.findall(r"default: \((.*?)\)", out) == [*map(str, values)]
    assert "simscale config train" in out
    out = run(capsys, "rl", "--help")[1]
    values = [rl.env_name, rl.agent["name"], rl.agent["total_timesteps"], rl.num_envs, rl.seed]
    assert re.findall(r"default: \((.*?)\)", out) == [*map(str, [*values, rl.device])]
    assert "simscale config rl" in out


def test_errors_name_flags_where_a_command_has_no_settings() -> None:
    params = typer.main.get_command(app).commands["eval"].params
    shown = with_flags("env_name is 'x' and n_episodes=3; not env_name.y or 'env_name'.", params)
    assert shown == "--env-name is 'x' and --n-episodes=3; not env_name.y or 'env_name'."
    params = typer.main.get_command(app).commands["train"].params
    assert with_flags("max_steps is 0.", params) == "max_steps is 0."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["eval"], "Missing argument 'CHECKPOINT'; see simscale eval --help."),
        (["datagen", "--n-episodes", "0"], "'--n-episodes'"),
        (["datagen", "--env-name", "rech", "--output", "x.h5"], "Did you mean 'reach'?"),
        (["datagen", "--policy", "none.pt", "--output", "x.h5"], "none.pt"),
        (["datagen", "--randomize", "hevy", "--output", "x.h5"], "'hevy'"),
        (["train", "--model", "bcc"], "Did you mean 'bc'?"),
        (["train", "lerning_rate=1"], "Unknown RunConfig setting 'lerning_rate'"),
        (["train", "lr=1"], "Did you mean 'optimizer.lr'?"),
        (["train", "model.hiden_dim=1"], "Did you mean 'hidden_dim'?"),
        (["train", "--dummy", "--eval-env-episodes", "5"], "eval.env_episodes needs a dataset"),
        (["train", "--resume", "none.pt"], "none.pt"),
        (["sweep", "seed=0,x"], "'seed'"),
        (["sweep", "seed=0,1", "--launcher", "jobli"], "Did you mean 'joblib'?"),
        (["train", "--dataset", "none.h5"], "none.h5"),
        (["train", "--config", "none.yaml"], "none.yaml"),
        (["datagn"], "Did you mean 'datagen', 'data'? See simscale --help."),
        (["train", "seed", "1"], "'seed' is not a setting; write KEY=VALUE"),
        (["eval", "scripted", "--until-interval", "2"], "Error: --until-interval is 2.0"),
        (["eval", "none.pt"], "none.pt"),
        (["eval", "text.pt"], "text.pt"),
        (["validate", "none.h5"], "none.h5"),
        (["validate", "text.pt"], "text.pt"),
    ],
)
def test_a_mistake_is_one_sentence(words, message, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pt").write_text("not a checkpoint")
    code, _, err = run(capsys, *words)
    assert code == 2
    *notices, last = err.splitlines()
    assert last.startswith("Error: ")
    assert message in last
    assert not any("Traceback" in line for line in notices)
    assert [path.name for path in tmp_path.iterdir()] == ["text.pt"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("list-envs", ["pick_place", "reach", "target_pos"]),
        ("list-models", ["bc", "hidden_dim", "vla:small", "instruction", "parameters"]),
        # each engine draws in a process of its own
        pytest.param("info", ["mujoco", "torch", "cpu", "gl (egl)"], marks=pytest.mark.slow),
    ],
)
def test_tables(command: str, words: list[str], capsys) -> None:
    code, out, _ = run(capsys, command)
    assert code == 0
    assert all(word in out for word in words)
    assert "{" not in out  # of no template


def test_datagen_writes_a_dataset_and_checks_it(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["datagen", "--n-episodes", "3", "--output", "new/reach.h5"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "verdict │ good" in out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["reach.h5"]

    code, _, err = run(capsys, *words)
    assert code == 2
    assert err == (
        "Error: new/reach.h5 exists; choose another output or replace it with --overwrite.\n"
    )
    assert run(capsys, *words, "--overwrite")[0] == 0
    assert "verdict │ good" in run(capsys, "validate", "new/reach.h5")[1]


def test_validate_fails_on_a_broken_dataset(capsys, tmp_path) -> None:
    file = tmp_path / "reach.h5"
    run(capsys, "datagen", "--n-episodes", "2", "--output", str(file))
    with h5py.File(file, "r+") as data:
        data["data/demo_1/actions"][0, 0] = float("nan")
    code, out, _ = run(capsys, "validate", str(file))
    assert code == 1
    assert "NaN" in out
    assert "demo_1" in out


def test_the_loop(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "datagen", "--n-episodes", "4", "--output", "reach.h5")[0] == 0
    code, out, _ = run(capsys, "train", "--dataset", "reach.h5", "--max-steps", "5")
    assert code == 0
    assert "loss" in out

    code, out, _ = run(capsys, "eval", "checkpoints/final.pt", "--n-episodes", "3", "--seed", "1")
    assert code == 0
    assert "success rate" in out
    found = json.loads(Path("checkpoints/eval_info.json").read_text())
    assert found["env_name"] == "reach"
    assert [len(found["episodes"]), found["seed"]] == [3, 1]
    assert all("never_reached" in out for e in found["episodes"] if not e["success"])

    words = ["eval", "checkpoints/final.pt", "--n-episodes", "2", "--randomize"]
    code, _, err = run(capsys, *words, "--output", "random")
    assert code == 0, err
    assert json.loads(Path("random/eval_info.json").read_text())["randomize"] == "default"

    rollouts = ["--policy", "checkpoints/final.pt", "--output", "rollouts.h5"]
    assert run(capsys, "datagen", "--n-episodes", "2", *rollouts)[0] == 0


def test_eval_lists_every_difference(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(capsys, "datagen", "--env-name", "pick_place", "--n-episodes", "2", "--output", "p.h5")
    run(capsys, "train", "--dataset", "p.h5", "--max-steps", "2")
    code, _, err = run(capsys, "eval", "checkpoints/final.pt", "--env-name", "reach")
    assert code == 2
    assert all(key in err for key in ("gripper_state", "object_pos", "object_quat"))


def test_train_settings_in_order(capsys, tmp_path, monkeypatch) -> None:
    seen: list[RunConfig] = []
    monkeypatch.setattr("simscaleai.tools.train.train_run", lambda run: seen.append(run) or {})
    file = tmp_path / "train.yaml"
    file.write_text(
        "seed: 7\ntrainer: {lr: 0.1, batch_size: 8}\nmodel: {hidden_dim: 32}\neval: {seed: 5}\n"
    )
    words = ["--config", str(file), "trainer.lr=0.2", "trainer.batch_size=16", "model.n_layers=2"]
    flags = ["--lr", "0.3", "--checkpoint-dir", "runs/a", "--resume", "auto", "--use-wandb"]
    code, _, err = run(capsys, "train", *words, *flags, "--eval-env-episodes", "9")
    assert (code, err) == (0, "")
    expected = TrainConfig(
        lr=0.3,
        batch_size=16,
        seed=7,
        model_kwargs={"hidden_dim": 32, "n_layers": 2},
        checkpoint_dir="runs/a",
        resume_from="auto",
        use_wandb=True,
    )
    assert [found.train_config() for found in seen] == [expected]
    assert (seen[0].eval.env_episodes, seen[0].eval.seed) == (9, 5)


def test_resume_auto_goes_on_in_the_folder_of_the_run(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(capsys, "datagen", "--n-episodes", "2", "--output", "reach.h5")
    words = ["train", "--dataset", "reach.h5", "--name", "a", "--resume", "auto"]
    steps = [*words, "trainer.save_every=2", "trainer.log_every=1", "--max-steps"]
    assert run(capsys, *steps, "4")[0] == 0  # nothing there yet: from the start
    code, _, err = run(capsys, *steps, "6")
    assert code == 0, err
    records = map(json.loads, Path("runs/a/metrics.jsonl").read_text().splitlines())
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert not Path("runs/a.old-1").exists()

    code, _, err = run(capsys, "train", "--config", "runs/a/config.yaml", "--max-steps", "3")
    assert code == 0 and "runs/a.old-1" in err  # a new run: the one before is kept
    assert Path("runs/a.old-1/checkpoints/final.pt").exists()
    assert Path("runs/a.old-1/config.yaml").exists()


def test_sweep_trains_every_combination(capsys, tmp_path, monkeypatch) -> None:
    pytest.importorskip("hydra")
    monkeypatch.chdir(tmp_path)
    run(capsys, "datagen", "--n-episodes", "3", "--output", "reach.h5")
    words = ["sweep", "--dataset", "reach.h5", "--max-steps", "3", "--name", "s", "seed=0,1"]
    words += ["model.hidden_dim=8", "--device", "cpu"]
    code, out, err = run(capsys, *words, "--eval-env-episodes", "2")
    assert code == 0, err
    assert "success" in out
    names = ["0-seed=0", "1-seed=1"]
    found = json.loads(Path("runs/s/summary.json").read_text())
    assert [Path(row["folder"]).name for row in found] == names
    assert len({row["loss"] for row in found}) == 2
    for name in names:
        assert Path("runs/s", name, "checkpoints/final.pt").exists()
        assert Path("runs/s", name, "config.yaml").exists()

    code, out, err = run(capsys, *words, "--eval-env-episodes", "2")
    assert code == 0 and "samples/s" in out
    assert "2 of 2 runs are finished already" in err and "Run 1" not in err
    assert not list(Path("runs/s").glob("*.old-*"))


def test_only_mistakes_are_caught(capsys, monkeypatch) -> None:
    def fail(error: Exception):
        def versions() -> dict[str, str]:
            raise error

        return versions

    monkeypatch.setattr("simscaleai.tools.info.versions", fail(PermissionError(13, "Denied", "f")))
    sentence = "f: Denied; choose another place, or change who may read and write it."
    assert run(capsys, "info") == (2, "", f"Error: {sentence}\n")
    monkeypatch.setattr("simscaleai.tools.info.versions", fail(UserError("Do this.")))
    assert run(capsys, "info") == (2, "", "Error: Do this.\n")
    monkeypatch.setattr("simscaleai.tools.info.versions", fail(ValueError("a defect")))
    with pytest.raises(ValueError, match="a defect"):
        cli.main(["info"])


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ([], None),
        (["--randomize"], "default"),
        (["--randomize", "heavy"], "heavy"),
        (["--randomize", "--seed", "1"], "default"),
        (["--randomize=light"], "light"),
    ],
)
def test_randomize_takes_an_optional_level(words, level, capsys, monkeypatch) -> None:
    seen = {}
    monkeypatch.setattr(data, "check", lambda dataset: None)
    monkeypatch.setattr(
        "simscaleai.datagen.generate_dataset", lambda *_, **given: seen.update(given) or {}
    )
    code, _, err = run(capsys, "datagen", *words)
    assert (code, err) == (0, "")
    assert seen["randomize"] == level
    assert seen["domain_randomization"] == (level is not None)
