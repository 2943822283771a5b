"""DAgger: the policy drives, the expert labels, and rounds accumulate, interrupted or not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from simscaleai.datagen import Interrupted, dagger, generate_dataset, validate_dataset
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.sim import make_vec_env
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.vetting import trust
from simscaleai.tools.cli import app
from simscaleai.tools.retrain import Retraining
from simscaleai.training.train_config import TrainConfig
from simscaleai.training.training_run import train_policy

ENV = {"dt": 0.01}
QUIET = {"show_progress": False, "domain_randomization": False}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder with a dataset of 4 episodes of reach and a policy that has learned next to nothing."""
    folder = tmp_path_factory.mktemp("start")
    data = folder / "first.h5"
    generate_dataset("reach", 4, data, "scripted", max_steps=12, env_kwargs=ENV, **QUIET)
    train_policy(
        TrainConfig(
            dataset_path=str(data),
            checkpoint_dir=str(folder / "clone"),
            model_kwargs={"hidden_dim": 8},
            max_steps=2,
            batch_size=8,
            device="cpu",
            num_workers=0,
            show_progress=False,
            use_tensorboard=False,
        )
    )
    return folder


@pytest.fixture
def work(start, tmp_path, monkeypatch):
    """A working directory with a copy of `start`."""
    shutil.copytree(start, tmp_path / "work")
    trust(tmp_path / "work" / "first.h5")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


class CopyingTrainer:
    """Takes the clone for the trained policy; notes the episodes that it was given."""

    def __init__(self, fail_at: int = 0) -> None:
        self.episodes: list[int] = []
        self._fail_at = fail_at

    def __call__(self, dataset: Path, folder: Path) -> None:
        with open_dataset(dataset) as data:
            self.episodes.append(len(data))
        if len(self.episodes) == self._fail_at:
            raise KeyboardInterrupt
        folder.mkdir()
        shutil.copy("clone/final.pt", folder / "final.pt")


def improve(train, output="d.h5", **changes):
    settings = {"rounds": 2, "episodes": 3, "seed": 5, "show_progress": False, **changes}
    return dagger("clone", "first.h5", output, train, **settings)


def test_every_state_has_the_action_of_the_expert(tmp_path):
    path = tmp_path / "labeled.h5"
    env_kwargs = {**ENV, "domain_randomization": False}
    generate_dataset(
        "reach", 3, path, "random", max_steps=10, env_kwargs=ENV, expert_labels=True, **QUIET
    )
    env = make_vec_env("reach", 10, **env_kwargs)
    env.reset(seed=0)
    expert = env.task.expert()
    with open_dataset(path) as data:
        for i in range(len(data)):
            env.sim.load_states(data.read(i, "states"))
            expected = expert.act(env.task.observe(env.sim))
            np.testing.assert_allclose(data.read(i, "actions"), expected, atol=1e-5)
        # the random policy has not done what the labels say
        assert not any(episode.success for episode in data.episodes)


def test_rounds_accumulate_in_a_dataset_like_any_other(work):
    train = CopyingTrainer()
    found = improve(train)
    assert train.episodes == [4 + 3, 4 + 6]
    assert found["total_episodes"] == 10 and found["policy"] == "d.h5.rounds/policy_2"
    assert [r["policy"] for r in found["rounds"]] == ["clone/final.pt", "d.h5.rounds/policy_1"]
    assert found["rounds"][0]["content_hash"] != found["rounds"][1]["content_hash"]
    report = validate_dataset("d.h5")
    assert report.ok, report.errors
    with open_dataset("d.h5") as data, open_dataset("first.h5") as first:
        assert data.contract == first.contract
        np.testing.assert_array_equal(data.read(0, "actions"), first.read(0, "actions"))
    left = sorted(path.name for path in Path("d.h5.rounds").iterdir())
    assert left == ["dagger.json", "policy_1", "policy_2", "round_1.h5", "round_2.h5"]

    # an interrupted run resumes and gives the same; the rounds of the whole one make way
    whole = found["content_hash"]
    shutil.rmtree("d.h5.rounds")
    Path("d.h5").unlink()
    with pytest.raises(Interrupted, match=r"training of round 2; .* --resume"):
        improve(CopyingTrainer(fail_at=2))
    with pytest.raises(ExistingFileError, match=r"holds the rounds|exists"):
        improve(CopyingTrainer())
    with pytest.raises(UserError, match=r"other settings \(.*n_episodes: 3 instead of 9"):
        improve(CopyingTrainer(), episodes=9, resume=True)
    train = CopyingTrainer()
    assert improve(train, resume=True)["content_hash"] == whole
    assert improve(train, resume=True)["content_hash"] == whole  # it is complete
    assert train.episodes == [10]  # the first round was not trained again
    with pytest.raises(UserError, match=r"training.*steps"):
        improve(train, resume=True, training={"steps": 7})
    # an output that was lost is merged again, and one of somebody else is left alone
    Path("d.h5").unlink()
    assert improve(train, resume=True)["content_hash"] == whole
    assert train.episodes == [10]
    for theirs in ("first.h5", "d.h5.rounds/dagger.json"):
        shutil.copy(theirs, "d.h5")
        with pytest.raises(ExistingFileError, match=r"d\.h5 exists; .*--overwrite"):
            improve(train, resume=True)
        assert Path("d.h5").read_bytes() == Path(theirs).read_bytes()
    assert improve(train, resume=True, overwrite=True)["content_hash"] == whole
    assert train.episodes == [10]
    # the new rounds take nothing from earlier ones, even if it was lost what those were of
    Path("d.h5.rounds/dagger.json").write_text("{")
    with pytest.raises(UserError, match=r"dagger\.json is damaged"):
        improve(train, resume=True)
    Path("d.h5.rounds/dagger.json").unlink()
    train = CopyingTrainer()
    assert improve(train, overwrite=True, rounds=1, episodes=1)["total_episodes"] == 5
    assert train.episodes == [5]


def test_what_cannot_work_is_said_before_the_first_episode(work):
    Path("mine.h5").write_text("mine")
    for sentence, changes in {
        "mine.h5 exists": {"output": "mine.h5"},
        "mine.h5 exists;": {"output": "mine.h5", "resume": True},
        "rounds is 0": {"rounds": 0},
        "control_dt is 0.1 s, expected 0.05 s": {"env_kwargs": {"control_dt": 0.1}},
        "no instructions to switch": {"switch_instructions": True},
    }.items():
        with pytest.raises(UserError, match=sentence):
            improve(CopyingTrainer(), **changes)
        assert not Path("d.h5.rounds").exists()  # nothing is in the way of the next try
    with pytest.raises(UserError, match="'random' is no trained policy"):
        dagger("random", "first.h5", "d.h5", CopyingTrainer())
    assert Path("mine.h5").read_text() == "mine"
    assert not Path("d.h5").exists()


def test_the_command_trains_as_the_checkpoint_was_trained(work, capsys):
    words = ["clone", "--rounds", "1", "--episodes", "2", "--output", "d.h5", "trainer.max_steps=3"]
    app(["dagger", *words], standalone_mode=False)
    printed = capsys.readouterr()
    assert "Next: simscale eval d.h5.rounds/policy_1" in printed.out
    assert "Round 1 of 1" in printed.err
    assert '"trainer.max_steps": 3' in Path("d.h5.rounds/dagger.json").read_text()
    again = Retraining.of("d.h5.rounds/policy_1").run
    assert (again.model["hidden_dim"], again.trainer.max_steps) == (8, 3)
    assert again.data.path == "d.h5" and again.checkpoints.folder == "checkpoints"


def test_settings_of_speed_and_display_are_no_other_training(work):
    words = [
        "data.num_workers=1",
        "trainer.log_every=5",
        "log.show_progress=false",
        "eval.env_episodes=2",
    ]
    fast = Retraining.of("clone", [*words, "name=mine", "trainer.lr=0.1", "model.hidden_dim=4"])
    assert fast.deciding == {"optimizer.lr": 0.1, "model.hidden_dim": 4}
    assert fast.changes.keys() > fast.deciding.keys()


def test_a_name_among_the_settings_does_not_lead_away(work):
    Retraining.of("clone", ["name=mine", "trainer.max_steps=2"])(Path("first.h5"), Path("here"))
    assert Path("here/final.pt").exists() and not Path("runs").exists()


def test_a_checkpoint_without_settings_of_training(tmp_path):
    from simscaleai.storage.checkpoint import save_checkpoint

    path = save_checkpoint(tmp_path / "final.pt", {"policy": {}, "ppo": {}})
    with pytest.raises(UserError, match="does not say how it was trained"):
        Retraining.of(path)


def test_labels_of_switched_episodes_are_those_of_their_own_instruction(tmp_path):
    path = tmp_path / "colors.h5"
    how = {"expert_labels": True, "switch_instructions": True, "max_steps": 8}
    generate_dataset("reach_color", 3, path, "random", env_kwargs=ENV, **how, **QUIET)
    with open_dataset(path) as data:
        sentences = list(data.contract.instructions.values())
        for i, episode in enumerate(data.episodes):
            (k,) = [k for k, each in enumerate(sentences) if episode.language in each]
            labels = data.read(i, "actions_by_instruction")
            np.testing.assert_array_equal(data.read(i, "actions"), labels[:, k])
    with pytest.raises(UserError, match="with expert_labels"):
        generate_dataset("reach_color", 1, tmp_path / "b.h5", switch_instructions=True)
