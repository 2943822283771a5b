"""`simscale rl`: from flags to a policy that other commands take, and its way with mistakes and signals."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from simscaleai.rl.agents.ppo import PPOAgent
from simscaleai.tools.cli import main

TINY = ["agent.n_steps=4", "agent.batch_size=16", "agent.hidden_dim=8", "agent.n_epochs=1"]
TINY += ["env.max_episode_steps=5", "eval_episodes=2", "use_tensorboard=false"]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(end.value.code or 0)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_flags_win_over_words_over_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("num_envs: 3\nseed: 5\nagent: {gamma: 0.5, lr: 0.01}\n")
    words = ["--config", "mine.yaml", "--name", "a", "--num-envs", "2", "--total-steps", "16"]
    assert run("rl", *words, *TINY, "agent.lr=0.02", "num_envs=7") == 0
    saved = yaml.safe_load(Path("runs/a/config.yaml").read_text())
    assert (saved["num_envs"], saved["seed"], saved["agent"]["gamma"]) == (2, 5, 0.5)
    assert (saved["agent"]["lr"], saved["agent"]["total_timesteps"]) == (0.02, 16)
    assert "success rate" in capsys.readouterr().out
    # what it saved is a run that can be made again, and a policy that others take
    assert run("rl", "--config", "runs/a/config.yaml", "--name", "b", "--save-path", "own.pt") == 0
    one, other = (PPOAgent.from_checkpoint(p) for p in ("runs/a/final.pt", "own.pt"))
    for key, value in one.network.state_dict().items():
        assert value.equal(other.network.state_dict()[key])
    assert run("eval", "own.pt", "--n-episodes", "2") == 0
    made = ["datagen", "--env-name", "reach", "--n-episodes", "2", "--output", "rl.h5"]
    assert run(*made, "--policy", "own.pt") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("save_path: victim/keys", "save_path is 'victim/keys', which leads out of"),
        ("save_path: runs/a/../../victim/keys\nname: a", "leads out of"),
        ("name: ../victim", "name is '../victim'"),
        ("name: /victim", "name is '/victim'"),
        ("a: &a [*a]", "refers to itself"),
    ],
)
def test_somebody_elses_file_writes_nothing_outside(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("victim").mkdir()
    Path("victim/keys").write_text("mine")
    Path("evil.yaml").write_text(f"num_envs: 2\n{text}\n")
    assert run("rl", "--config", "evil.yaml", "--total-steps", "8", *TINY) == 2
    assert message in capsys.readouterr().err
    assert Path("victim/keys").read_text() == "mine"
    assert sorted(p.name for p in Path().iterdir()) == ["evil.yaml", "victim"]


def test_a_file_may_name_a_path_in_its_own_folder_and_a_flag_any() -> None:
    Path("mine.yaml").write_text("num_envs: 2\nname: a\nsave_path: runs/a/agent.pt\n")
    words = ["rl", "--config", "mine.yaml", "--total-steps", "8", *TINY]
    assert run(*words) == 0 and Path("runs/a/agent.pt").exists()
    assert run(*words, "--save-path", "agents/a.pt") == 0 and Path("agents/a.pt").exists()
    # the path outside is not in the file that makes the run again, which could not say it
    assert (
        run("rl", "--config", "runs/a/config.yaml", "--resume", "auto", "--total-steps", "16") == 0
    )
    assert PPOAgent.from_checkpoint("runs/a/final.pt").timesteps == 16


def test_the_documented_flags_alone() -> None:
    assert run("rl", "--env-name", "reach", "--total-steps", "8", "--num-envs", "2", *TINY) == 0
    assert Path("checkpoints/ppo_reach/final.pt").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env-name", "recah"], "reach"),
        (["agent.lrr=1"], "lr"),
        (["agent.gamma=2"], "gamma"),
        (["--config", "absent.yaml"], "absent.yaml"),
        (["--init-from", "absent.pt"], "absent.pt"),
        (["--resume", "absent.pt"], "absent.pt"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rl", *words, "--num-envs", "2") == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_told_to_stop_it_saves_and_goes_on_later() -> None:
    base = ["rl", "--name", "a", "--num-envs", "2", *TINY, "eval_every=0"]
    records = Path("runs/a/metrics.jsonl").absolute()

    def stop() -> None:
        while not (records.exists() and records.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)  # the run notes it; else the test session would end

    threading.Thread(target=stop, daemon=True).start()
    assert run(*base, "--total-steps", "100000000") == 130
    stopped = PPOAgent.from_checkpoint("runs/a/last.pt").timesteps
    assert stopped > 0
    more = str(stopped + 16)
    assert run(*base, "--resume", "auto", "--total-steps", more) == 0
    assert PPOAgent.from_checkpoint("runs/a/final.pt").timesteps == stopped + 16
    steps = [json.loads(line)["step"] for line in records.read_text().splitlines()]
    assert steps == sorted(steps)
