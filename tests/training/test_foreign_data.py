"""Files of other tools: what they hold is learned from, or refused before the first step."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from simscaleai.datagen.validate import validate_dataset
from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.vetting import trust
from simscaleai.tools.visualize import plot_dataset, plot_trajectory
from simscaleai.training import TrainConfig
from simscaleai.training.training_run import train_policy

STEPS = 6
RNG = np.random.default_rng(0)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function of arrays {observation: (STEPS, ...)} and settings to the policy that was trained."""
    monkeypatch.chdir(tmp_path)

    def train(obs, model="bc:debug", actions=None, kwargs=None, **settings):
        with h5py.File("d.h5", "w") as file:
            for i in range(12):
                demo = file.create_group(f"data/demo_{i}")
                unit = RNG.uniform(-1, 1, (STEPS, 7))
                demo["actions"] = unit if actions is None else actions
                for key, value in obs.items():
                    demo[f"obs/{key}"] = value
        trust("d.h5")
        config = TrainConfig(
            model,
            kwargs or {},
            dataset_path="d.h5",
            batch_size=8,
            device="cpu",
            use_tensorboard=False,
            **{"max_steps": 2, "show_progress": False, **settings},
        )
        train_policy(config)
        return ModelPolicy.from_checkpoint("checkpoints/final.pt")

    return train


def vector(width=3):
    return RNG.normal(size=(STEPS, width))


def picture(*shape, dtype=np.uint8):
    return (RNG.random((STEPS, *shape)) * 255).astype(dtype)


@pytest.mark.parametrize(
    ("key", "value", "width"),
    [
        ("image_embedding", vector(20), 23),
        ("image_timestamp", RNG.normal(size=STEPS), 4),
        ("depth_sensor", vector(1), 4),
        ("segmentation_id", np.zeros(STEPS, np.int64), 4),
        ("images/left", vector(2), 5),
        ("object_pose", RNG.normal(size=(STEPS, 4, 4)), 19),
        ("agentview_image", picture(16, 16, 3), 3),
        ("agentview_depth", picture(16, 16, 1, dtype=np.float32), 3),
        ("gelsight", picture(12, 9, dtype=np.uint16), 3),
        ("image", picture(3, 16, 16, dtype=np.float32), 3),
    ],
)
def test_vectors_are_told_from_pictures_by_their_shape(train, key, value, width):
    policy = train({"eef": vector(), key: value})
    assert policy.spec.state_dim == width
    assert validate_dataset("d.h5").ok
    obs = {"eef": vector().astype(np.float32), key: value}
    assert policy.act(obs).shape == (STEPS, 7)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (picture(3, 16, 16), r"uint8 \(3, 16, 16\), channels first"),
        (picture(16, 16, 3, dtype=np.float32), "float32"),
        (picture(16, 16, 3, dtype=np.uint16), "uint16"),
        (picture(16, 16), r"uint8 \(16, 16\)"),
        (picture(16, 16, 7), r"uint8 \(16, 16, 7\)"),
        (picture(2, 16, 16, 3), r"uint8 \(2, 16, 16, 3\)"),
    ],
)
@pytest.mark.parametrize("model", ["bc:debug", "act:debug", "vla:debug"])
def test_pictures_that_no_model_reads(train, model, value, says):
    with pytest.raises(
        UserError, match=f"cannot read the images.*'image' is {says}.*uint8 \\(height"
    ):
        train(
            {"eef": vector(), "image": value},
            model,
            kwargs={} if "vla" in model else {"use_image": True},
        )
    (warning,) = [w for w in validate_dataset("d.h5").warnings if "no model reads" in w]
    assert "'image' is" in warning


def test_pictures_of_another_size_than_the_model_reads(train):
    obs = {"eef": vector(), "images/a": picture(64, 64, 3), "images/b": picture(48, 48, 3)}
    cameras = {"cameras": ["a", "b"]}
    with pytest.raises(
        UserError, match=r"'images/b' is \(48, 48, 3\), and the model reads \(64, 64, 3\)"
    ):
        train(obs, "vla:debug", kwargs=cameras)
    assert train(obs, kwargs=cameras).act(obs).shape == (STEPS, 7)


def test_a_picture_by_the_name_of_a_camera(train):
    obs = {"eef": vector(), "agentview_image": picture(16, 16, 3), "hand_image": picture(8, 8, 3)}
    with pytest.raises(UserError, match=r"reads image,.*'data\.images=\{image: agentview_image\}'"):
        train(obs, kwargs={"use_image": True})
    policy = train(obs, kwargs={"use_image": True}, images={"wrist": "agentview_image"})
    assert policy.spec.shapes["image"] == (16, 16, 3)
    policy = train(obs, kwargs={"cameras": ["wrist"]}, images={"wrist": "agentview_image"})
    assert policy.model.obs_keys == ("state", "images/wrist")


def test_a_large_matrix_is_left_to_the_user(train):
    obs = {"eef": vector(), "tactile": RNG.normal(size=(STEPS, 16, 16))}
    with pytest.raises(UserError, match=r"'tactile' has the shape \(16, 16\).*data\.state_keys"):
        train(obs)
    assert not validate_dataset("d.h5").ok
    assert train(obs, state_keys=["eef"]).spec.state_dim == 3


@pytest.mark.parametrize("model", ["bc:debug", "diffusion:debug"])
def test_actions_beyond_one_are_learned_and_acted_in_their_range(train, model, capfd):
    eef = RNG.uniform(-1, 1, (STEPS, 2))
    actions = eef * (50, 0.5)
    policy = train({"eef": eef}, model, actions=actions, max_steps=80, lr=2e-2, show_progress=True)
    assert "Actions leave [-1, 1]" in capfd.readouterr().err
    policy.reset(np.ones(STEPS, bool), range(STEPS))
    acted = policy.act({"eef": eef.astype(np.float32)})
    most = np.abs(actions).max(axis=0)
    assert (np.abs(acted) <= np.maximum(most, 1) + 1e-3).all()
    if model == "bc:debug":  # a diffusion takes longer to learn
        assert np.corrcoef(acted[:, 0], actions[:, 0])[0, 1] > 0.9
    assert np.abs(acted[:, 0]).max() > 5
    report = validate_dataset("d.h5")
    assert report.ok and any("actions leave [-1, 1]" in warning for warning in report.warnings)


def test_what_is_not_finite_is_refused_before_the_first_step(train):
    spoiled = vector()
    spoiled[3, 1] = np.nan
    with pytest.raises(UserError, match=r"d\.h5: state has NaN"):
        train({"eef": spoiled})
    assert not validate_dataset("d.h5").ok


@pytest.mark.parametrize("shape", [(), (0,), (2, 2)])
def test_actions_that_are_no_vector_are_refused(train, shape):
    with pytest.raises(UserError, match=r"expected a vector"):
        train({"eef": vector()}, actions=np.zeros((STEPS, *shape)))
    assert not validate_dataset("d.h5").ok


def test_an_empty_episode_and_overlapping_masks(train):
    train({"eef": vector()})
    with h5py.File("d.h5", "r+") as file:
        del file["data/demo_0"]
        file["data/demo_0/actions"] = np.zeros((0, 7))
    assert validate_dataset("d.h5").ok
    assert "11 episodes, 66 steps" in plot_dataset("d.h5").get_suptitle()
    with pytest.raises(UserError, match="demo_0 has no steps"):
        plot_trajectory("d.h5", 0)
    train_policy(config := TrainConfig("bc:debug", dataset_path="d.h5", max_steps=1, device="cpu"))
    with h5py.File("d.h5", "r+") as file:
        file["mask/train"] = np.array(["demo_1", "demo_2"], dtype="S")
        file["mask/valid"] = np.array(["demo_2"], dtype="S")
    with pytest.raises(UserError, match=r"d\.h5: mask/train and mask/valid have 1 .*demo_2"):
        train_policy(config)
    assert any("1 episodes in common" in error for error in validate_dataset("d.h5").errors)


def test_a_resumed_run_compares_its_data(train, tmp_path, capfd):
    train({"eef": vector(), "image": picture(16, 16, 3)}, kwargs={"use_image": True})
    (tmp_path / "moved.h5").write_bytes((tmp_path / "d.h5").read_bytes())
    (tmp_path / "checkpoints" / "final.pt").rename(tmp_path / "first.pt")
    config = TrainConfig(
        "bc:debug",
        {"use_image": True},
        dataset_path="d.h5",
        max_steps=3,
        batch_size=8,
        device="cpu",
        resume_from="first.pt",
        show_progress=False,
    )
    assert train_policy(replace(config, dataset_path="moved.h5"))["step"] == 3
    assert "The data are not those" not in capfd.readouterr().err
    final = next(tmp_path.glob("checkpoints/final.pt")).read_bytes()
    with h5py.File("d.h5", "r+") as file:
        file["data/demo_3/actions"][2] *= 0.5
        file["data/demo_4/obs/image"][...] = 7
        del file["data/demo_11"]
    says = r"10 episodes, and 11 before; 60 steps, and 66 before"
    says += r".*'actions'; other values of 'episodes'; other values of 'image'.*d\.h5 has changed"
    with pytest.raises(UserError, match=says):
        train_policy(replace(config, max_steps=4))
    assert (tmp_path / "checkpoints" / "final.pt").read_bytes() == final
    (tmp_path / "d.h5").rename("other.h5")
    assert train_policy(replace(config, dataset_path="other.h5", max_steps=4))["step"] == 4
    assert "The data are not those" in capfd.readouterr().err
