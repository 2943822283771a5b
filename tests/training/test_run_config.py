"""A run in groups: typed by TrainConfig and by the model's constructor, and made again from its file."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import register_model
from simscaleai.training import TrainConfig
from simscaleai.training.run_config import RunConfig, load_run, replayable

CONFIGS = sorted((Path(__file__).parents[2] / "configs/train").glob("*.yaml"))


@register_model("test-settings")
class Model(nn.Module):
    """Arguments of many kinds."""

    def __init__(
        self,
        width: int,
        rate: float = 0.5,
        sizes: list[int] = [1, 2],  # noqa: B006 (a mutable default is what is tested)
        note: str | None = None,
        activation: type[nn.Module] = nn.ReLU,
        untyped=3,
    ) -> None:
        super().__init__()


@register_model("test-anything")
class Anything(nn.Module):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()


def test_defaults_are_those_of_train_config() -> None:
    assert load_run() == RunConfig()
    assert RunConfig().train_config() == TrainConfig()
    assert RunConfig.of(TrainConfig()) == RunConfig()


def test_every_field_of_train_config_has_a_place() -> None:
    changed = {
        "model_name": "vla",
        "model_kwargs": {"hidden_dim": 3},
        "optimizer_options": {"momentum": 0.5},
        "run_name": "a",
        "resume_from": "x.pt",
        "wandb_run_name": "b",
        "use_tensorboard": False,
    }
    for field in fields(TrainConfig):
        default = getattr(TrainConfig(), field.name)
        if field.name not in changed:
            changed[field.name] = {bool: not default, str: "other"}.get(type(default), 7)
    config = TrainConfig(**changed)
    assert all(getattr(config, f.name) != getattr(TrainConfig(), f.name) for f in fields(config))
    assert RunConfig.of(config).train_config() == config


def test_file_then_words_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "name: a\nseed: 7\ndata: {path: d.h5}\nmodel: {hidden_dim: 32}\n"
        "trainer: {lr: 1e-3, weight_decay: 5E-2, batch_size: 8}\neval: {env_episodes: 5}\n"
    )
    words = ["trainer.lr=2e-3", "trainer.batch_size=16", "model.n_layers=2", "eval.randomize=light"]
    run = load_run(file, words, {"trainer.lr": 0.3, "name": "b", "model.name": "bc"})
    assert run.train_config() == TrainConfig(
        run_name="b",
        seed=7,
        dataset_path="d.h5",
        model_kwargs={"hidden_dim": 32, "n_layers": 2},
        lr=0.3,
        weight_decay=0.05,
        batch_size=16,
    )
    assert (run.eval.env_episodes, run.eval.randomize) == (5, "light")
    assert load_run(file).optimizer.lr == 0.001  # 1e-3 is a string in YAML 1.1


def test_a_model_is_typed_by_its_constructor() -> None:
    words = ["model.name=test-settings", "model.width=3", "model.rate='1'", "model.sizes=[4]"]
    more = ["model.note=null", "model.activation=x", "model.untyped=[1, {a: 2}]"]
    assert load_run(None, words + more).model == {
        "name": "test-settings",
        "width": 3,
        "rate": 1.0,
        "sizes": [4],
        "note": None,
        "activation": "x",
        "untyped": [1, {"a": 2}],
    }
    assert load_run(None, ["model.name=test-settings"]).model == {"name": "test-settings"}
    free = ["model.name=test-anything", "model.of={any: kind}"]
    assert load_run(None, free).model == {"name": "test-anything", "of": {"any": "kind"}}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.hiden_dim=3", "Unknown bc model setting 'hiden_dim'.*Did you mean 'hidden_dim'"),
        ("model.hidden_dim=big", "'model.hidden_dim': Value 'big'.*Integer"),
        ("model.hidden_dim=1.5", "'model.hidden_dim'.*Integer"),
        ("model.use_image=maybe", "'model.use_image'.*bool"),
        ("model.name=bcc", "Unknown model 'bcc'.*Did you mean 'bc'"),
        ("model=bc", "'model=bc'"),
        ("lr=1", "Unknown RunConfig setting 'lr'.*Did you mean 'optimizer.lr'"),
        ("batchsize=1", "Did you mean 'trainer.batch_size'"),
        ("trainer.max_step=1", "Did you mean 'max_steps'"),
        ("trainer=1", "'trainer'"),
        (
            "data.pth=x",
            "Unknown DataSettings setting 'pth'; known: cache_mb, images, num_workers, path",
        ),
        ("eval.env_episodes=many", "'eval.env_episodes'.*Integer"),
        ("trainer.lr=${seed}", "refers to another value"),
        ("model.dropout=${oc.env:HOME}", "refers to another value"),
        ("model._target_=os.getcwd", "Unknown bc model setting '_target_'"),
        ("trainer._target_=os.getcwd", "Unknown TrainerSettings setting '_target_'"),
        ("_target_=os.getcwd", "Unknown RunConfig setting '_target_'"),
    ],
)
def test_a_mistake_is_one_sentence(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_run(None, [word])
    assert "\n" not in str(error.value)


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    for text in ("model: {hiden_dim: 3}", "trainer: {lrr: 3}", "_target_: os.getcwd"):
        file.write_text(text)
        with pytest.raises(UserError, match=f"{file}: Unknown"):
            load_run(file)


def test_a_run_is_made_again_from_its_file(tmp_path: Path) -> None:
    run = load_run(None, ["trainer.lr=3e-4", "model.hidden_dim=8", "eval.num_envs=2", "name=a"])
    resumed = replace(run.checkpoints, resume_from="runs/a/checkpoints/step_5.pt")
    (tmp_path / "config.yaml").write_text(replayable(replace(run, checkpoints=resumed)))
    again = load_run(tmp_path / "config.yaml")
    assert again.model["hidden_dim"] == 8
    assert again.model["dropout"] == 0.1  # also where a later release has another default
    assert replace(again, model=run.model) == run  # from its first step
    assert (tmp_path / "config.yaml").read_text() == replayable(again)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configurations_that_come_with_it_load(path: Path) -> None:
    run = load_run(path)
    run.train_config().check()
    assert run.train_config() != TrainConfig()
    assert f"--config configs/train/{path.name}" in path.read_text()


def test_settings_can_be_sent_to_another_process() -> None:
    run = load_run(None, ["model.hidden_dim=8"])
    assert pickle.loads(pickle.dumps(run)) == run


def test_the_folder_on_the_command_line_wins_over_a_name_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ntrainer: {checkpoint_dir: inside}\n")
    named = load_run(tmp_path / "a.yaml")
    assert named.train_config().run_folder == Path("runs/a")
    for words, flags in (
        (["trainer.checkpoint_dir=/b"], {}),
        ([], {"trainer.checkpoint_dir": "/b"}),
    ):
        assert load_run(tmp_path / "a.yaml", words, flags).train_config().run_folder == Path("/b")
    both = {"trainer.checkpoint_dir": "/b", "name": "c"}
    with pytest.raises(UserError, match="each says which folder"):
        load_run(tmp_path / "a.yaml", [], both)


def test_a_file_names_no_folder_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    file = tmp_path / "evil.yaml"
    for folder in ("../victim", str(tmp_path / "victim"), "a/../../victim"):
        file.write_text(f"trainer: {{checkpoint_dir: {folder}}}\n")
        with pytest.raises(UserError, match=r"evil\.yaml: checkpoints\.folder is .* leads out"):
            load_run(file)
        assert load_run(file, flags={"trainer.checkpoint_dir": folder})
    file.write_text("trainer: {checkpoint_dir: inside/a}\n")
    assert load_run(file).checkpoints.folder == "inside/a"
    elsewhere = tmp_path / "scratch"  # a run's own config.yaml
    elsewhere.mkdir()
    (elsewhere / "config.yaml").write_text(f"trainer: {{checkpoint_dir: {elsewhere}}}\n")
    assert load_run(elsewhere / "config.yaml").checkpoints.folder == str(elsewhere)
    file.write_text("name: ../../victim\n")
    with pytest.raises(UserError, match="run_name is"):
        load_run(file).train_config().check()


def test_flat_names_in_trainer_stand_for_those_of_the_groups(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("trainer: {lr: 0.1, optimizer: sgd, checkpoint_dir: a, max_steps: 5}\n")
    run = load_run(file, ["trainer.schedule=linear"], {"trainer.device": "cpu"})
    assert (run.optimizer.name, run.optimizer.lr, run.schedule.name) == ("sgd", 0.1, "linear")
    assert (run.checkpoints.folder, run.hardware.device, run.trainer.max_steps) == ("a", "cpu", 5)
    file.write_text("trainer: {lr: 0.1}\noptimizer: {lr: 0.2}\n")
    with pytest.raises(
        UserError, match=r"run\.yaml: trainer\.lr and optimizer\.lr are one setting"
    ):
        load_run(file)
