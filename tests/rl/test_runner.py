"""A run of reinforcement learning: its files, going on, and its mistakes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from simscaleai.errors import ExistingFileError, UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.rl.settings import RLConfig, load_rl
from simscaleai.rl.training import train_agent
from simscaleai.tracking.folder import RunLock


def config(**changes: object) -> RLConfig:
    agent = asdict(
        PPOConfig(n_steps=8, batch_size=32, n_epochs=1, hidden_dim=16, total_timesteps=96)
    )
    values = {
        "name": "a",
        "num_envs": 4,
        "agent": {"name": "ppo", **agent},
        "env": {"max_episode_steps": 6, "dt": 0.01},
    }
    values |= {"eval_every": 2, "eval_episodes": 3, "use_tensorboard": False} | changes
    return RLConfig(**values, show_progress=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with `runs/a` of `config()`, and what the run returned."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, train_agent(config())


@pytest.fixture
def after_a_run(finished: tuple[Path, Any], tmp_path: Path, monkeypatch: Any) -> None:
    """A working directory with a copy of it."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def test_a_run_leaves_its_agents_and_numbers(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, done = finished[0] / "runs/a", finished[1]
    names = {"best.pt", "last.pt", "final.pt", "metrics.jsonl", "config.yaml", "run_info.json"}
    assert {p.name for p in folder.iterdir()} == names
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval_success_rate" in line] == [64, 96]
    assert done["timesteps"] == 96 and not done["stopped"]
    policy = ModelPolicy.from_checkpoint(folder / "final.pt", device="cpu")
    assert policy.contract is not None and policy.contract.env_name == "reach"


@pytest.mark.usefixtures("after_a_run")
def test_a_run_goes_on_and_an_old_one_is_moved_aside() -> None:
    longer = config(resume_from="auto")
    longer.agent["total_timesteps"] = 160
    assert train_agent(longer)["timesteps"] == 160
    assert not list(Path("runs").glob("a.old*"))
    train_agent(config())
    assert PPOAgent.from_checkpoint("runs/a.old-1/final.pt").timesteps == 160


def agents(folder: str = "runs/a") -> dict[str, int]:
    """{file: steps that its agent has learned from}."""
    return {
        p.name: PPOAgent.from_checkpoint(p).timesteps for p in sorted(Path(folder).glob("*.pt"))
    }


def scores(monkeypatch, *found: tuple[float, float]) -> list[int]:
    """Let evaluations find these (success, return), one after the other; steps at which they did."""
    waiting, at = list(found), []

    def evaluated(run, agent):
        at.append(agent.timesteps)
        success, reward = waiting.pop(0)
        return {
            "success_rate": success,
            "success_ci": [0, 1],
            "mean_reward": reward,
            "mean_length": 6.0,
        }

    monkeypatch.setattr("simscaleai.rl.runner.Runner._evaluated", evaluated)
    return at


def test_a_resumed_run_keeps_the_best_agent_of_all_its_starts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    scores(monkeypatch, (0.0, -3.0), (0.5, -2.0), (0.5, -2.5))
    train_agent(config(eval_every=1))
    assert agents() == {"best.pt": 64, "final.pt": 96, "last.pt": 96}
    longer = config(eval_every=1, resume_from="auto")
    longer.agent["total_timesteps"] = 160
    scores(monkeypatch, (0.5, -2.1), (0.0, 0.0))
    train_agent(longer)
    assert agents() == {"best.pt": 64, "final.pt": 160, "last.pt": 160}
    longer.agent["total_timesteps"] = 192
    scores(monkeypatch, (0.5, -1.9))
    train_agent(longer)
    assert agents()["best.pt"] == 192


def test_scores_of_other_episodes_are_not_compared(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    scores(monkeypatch, (1.0, 0.0), (0.5, 0.0), (0.5, 0.0))
    train_agent(config(eval_every=1))
    other = config(eval_every=1, eval_seed=7, resume_from="auto")
    other.agent["total_timesteps"] = 128
    at = scores(
        monkeypatch, (0.2, 0.0), (0.3, 0.0)
    )  # of best.pt on the new episodes, then of the new agent
    train_agent(other)
    assert at == [32, 128] and agents()["best.pt"] == 128


def test_going_on_from_an_older_agent_moves_the_later_ones_aside(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scores(monkeypatch, (0.5, 0.0), (0.0, 0.0), (0.0, 0.0))
    train_agent(config(eval_every=1))
    Path("runs/a/last.pt").write_bytes(b"cut short")
    scores(monkeypatch, (0.0, 1.0), (0.0, 2.0))
    train_agent(config(eval_every=1, resume_from="runs/a/best.pt"))
    assert agents() == {"best.pt": 32, "final.pt": 96, "last.pt": 96}
    assert sorted(p.name for p in Path("runs/a.old-1").iterdir()) == ["final.pt", "last.pt"]
    elsewhere = config(name="b", resume_from="runs/a/best.pt", eval_every=1)
    scores(monkeypatch, (0.0, 1.0), (0.0, 2.0))
    train_agent(elsewhere)
    assert agents("runs/b")["best.pt"] == 96  # of what this folder has seen, the best


@pytest.mark.usefixtures("after_a_run")
def test_every_other_setting_is_named_and_nothing_changed() -> None:
    before = {p: p.read_bytes() for p in Path("runs/a").iterdir()}
    short = {"max_episode_steps": 9, "dt": 0.005}
    for changes, agent, message in (
        ({"reward": "sparse"}, {}, ["reward is sparse, and default there"]),
        ({"reward": {"success": 2.0}}, {}, ["reward is {'success': 2.0}"]),
        ({"env": short}, {}, ["max_episode_steps is 9, and 6", "dt is 0.005, and 0.01"]),
        ({"env_name": "reach_color", "num_envs": 8}, {}, ["env_name is", "num_envs is 8, and 4"]),
        ({"seed": 4}, {"gamma": 0.5}, ["agent.seed is 4, and 0", "agent.gamma is 0.5, and 0.99"]),
    ):
        other = config(resume_from="auto", **changes)
        other.agent |= agent
        with pytest.raises(UserError) as error:
            train_agent(other)
        assert all(part in str(error.value) for part in message) and "\n" not in str(error.value)
    assert {p: p.read_bytes() for p in Path("runs/a").iterdir()} == before


@pytest.mark.usefixtures("after_a_run")
def test_what_does_not_decide_the_result_may_differ() -> None:
    other = config(resume_from="auto", eval_every=1, eval_episodes=2, num_threads=1)
    other.agent |= {"total_timesteps": 128, "log_every": 1}
    assert train_agent(other)["timesteps"] == 128


@pytest.mark.usefixtures("after_a_run")
def test_a_folder_that_is_in_use_is_left_alone() -> None:
    before = agents()
    with RunLock(Path("runs/a")):
        for resume_from in (None, "auto"):
            with pytest.raises(UserError, match="Another process"):
                train_agent(config(resume_from=resume_from))
    assert agents() == before and not list(Path("runs").glob("a.old*"))


def test_the_final_agent_replaces_nothing_else(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("mine")
    with pytest.raises(ExistingFileError, match=r"notes\.txt, which exists and holds no agent"):
        train_agent(config(save_path="notes.txt"))
    assert Path("notes.txt").read_text() == "mine" and not Path("runs/a/last.pt").exists()
    with pytest.raises(UserError, match=r"a\.pt cannot be written .*another save_path"):
        train_agent(config(save_path="notes.txt/a.pt"))  # before the first step
    assert not Path("runs/a/last.pt").exists()
    for _ in range(2):
        train_agent(config(save_path="agents/a.pt"))
    assert PPOAgent.from_checkpoint("agents/a.pt").timesteps == 96
    with pytest.raises(UserError, match=r"name is '\.\./b'"):
        train_agent(config(name="../b"))


@pytest.mark.usefixtures("after_a_run")
def test_mistakes_are_named_together() -> None:
    wrong = config(num_envs=0)
    wrong.agent["gamma"] = 2.0
    with pytest.raises(UserError, match=r"num_envs is 0.*gamma is 2\.0"):
        train_agent(wrong)
    other = config(resume_from="runs/a/final.pt")
    other.agent["hidden_dim"] = 32
    with pytest.raises(UserError, match=r"hidden_dim is 32, and 16 there"):
        train_agent(other)


def test_settings_of_ppo_may_stand_under_its_own_name(tmp_path: Path) -> None:
    short = {"n_steps": 8, "gamma": 0.9}
    assert RLConfig(ppo=short).agent == {"name": "ppo", **short}
    assert RLConfig(ppo=PPOConfig(gamma=0.9)).agent == {
        "name": "ppo",
        **asdict(PPOConfig(gamma=0.9)),
    }
    file = tmp_path / "rl.yaml"
    file.write_text("ppo: {n_steps: 8}")
    loaded = load_rl(file, ["ppo.gamma=0.9", "agent.lr=0.1"])
    assert loaded.agent == {"name": "ppo", "n_steps": 8, "gamma": 0.9, "lr": 0.1}
    with pytest.raises(UserError, match="give those of one agent"):
        RLConfig(agent={"name": "cem"}, ppo=short)
    with pytest.raises(UserError, match="ppo is 3; give a mapping"):
        RLConfig(ppo=3)
    with pytest.raises(UserError, match="widht"):
        RLConfig(ppo={"widht": 3}).resolve_agent()


def test_an_early_end_is_explained(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    scores(monkeypatch, (1.0, 3.0))
    shown = replace(config(stop_at_success=0.9), show_progress=True)
    assert train_agent(shown)["timesteps"] == 64
    said = capsys.readouterr()
    assert "Ended at 64 of 96 steps: the success rate has reached stop_at_success=0.9." in (
        said.out + said.err
    )
