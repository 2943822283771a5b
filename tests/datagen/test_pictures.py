"""Pictures in datasets: recorded alike by any workers, and drawn again from states alone."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from simscaleai.datagen import (
    Interrupted,
    content_hash,
    generate_dataset,
    render_dataset,
    validate_dataset,
)
from simscaleai.datagen.episode_renderer import EpisodeRenderer
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.sim import make_env
from simscaleai.storage.episodes import open_dataset

pytest.importorskip("warp", reason="the ray tracer is not installed")

CAMERAS = ["wrist_cam", "front_cam"]
LOOKS = {"depth": True, "segmentation": True}


def generate(output, **changes):
    settings = {"cameras": CAMERAS, "image_size": 24, "max_steps": 6, "seed": 1, **LOOKS, **changes}
    return generate_dataset("pick_place", 4, output, "scripted", show_progress=False, **settings)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "demos.h5"
    generate(path)
    return path


def pictures(path, i=0):
    with open_dataset(path) as data:
        keys = [k for k in data.obs_keys if k.startswith(("image", "depth", "segmentation"))]
        return {key: data.read(i, f"obs/{key}") for key in keys}


def test_what_is_recorded(recorded):
    seen = pictures(recorded)
    assert {k: (v.shape[1:], str(v.dtype)) for k, v in seen.items()} == {
        "image": ((24, 24, 3), "uint8"),
        **{f"images/{c}": ((24, 24, 3), "uint8") for c in CAMERAS},
        **{f"depth/{c}": ((24, 24), "float32") for c in CAMERAS},
        **{f"segmentation/{c}": ((24, 24), "int32") for c in CAMERAS},
    }
    np.testing.assert_array_equal(seen["image"], seen["images/wrist_cam"])
    with h5py.File(recorded) as file:  # no groups in groups, and the first camera's picture once
        obs = file["data/demo_0/obs"]
        kinds = ("image", "depth", "segmentation")
        assert {k for k in obs if k.endswith(kinds)} == {f"{c}_{k}" for c in CAMERAS for k in kinds}
        assert {obs[f"{c}_depth"].shape[1:] for c in CAMERAS} == {(24, 24, 1)}
    report = validate_dataset(recorded)
    assert report.ok, report.errors
    with open_dataset(recorded) as data:  # what the environment gives when it starts as it is told
        env_config, seed = data.contract.env_config, data.episodes[1].seed
    obs, _ = make_env("pick_place", **env_config).reset(seed=seed)
    for key, value in pictures(recorded, 1).items():
        np.testing.assert_array_equal(value[0], obs[key])


@pytest.mark.slow
def test_the_same_for_two_workers(recorded, tmp_path):
    generate(tmp_path / "two.h5", workers=2, num_envs=1)
    assert content_hash(tmp_path / "two.h5") == content_hash(recorded)


def test_rendering_again_gives_what_was_recorded(recorded, tmp_path):
    """Also from a recording without any picture: states and randomization are all it takes."""
    bare = tmp_path / "bare.h5"
    generate(bare, cameras=(), depth=False, segmentation=False)
    assert not pictures(bare)
    result = render_dataset(bare, tmp_path / "new.h5", CAMERAS, 24, **LOOKS)
    assert result["content_hash"] == content_hash(tmp_path / "new.h5") == content_hash(recorded)
    with open_dataset(bare) as old, open_dataset(tmp_path / "new.h5") as new:
        assert old.splits() == new.splits() and result["frames"] == 2 * result["total_steps"]
        assert {len(e) for e in (old, new)} == {4}


def test_a_stopped_rendering_goes_on_where_it_ended(recorded, tmp_path, monkeypatch):
    output = tmp_path / "new.h5"
    whole = render_dataset(recorded, tmp_path / "whole.h5", ["front_cam"], 8)
    draw, drawn = EpisodeRenderer.episode, []

    def stopping(painter, data, i):
        if i == 2:
            raise KeyboardInterrupt
        return draw(painter, data, i)

    monkeypatch.setattr(EpisodeRenderer, "episode", stopping)
    with pytest.raises(Interrupted, match=r"2 finished episodes.*--resume to go on"):
        render_dataset(recorded, output, ["front_cam"], 8)
    assert not output.exists()
    monkeypatch.setattr(
        EpisodeRenderer, "episode", lambda *args: drawn.append(args[2]) or draw(*args)
    )
    with pytest.raises(ExistingFileError, match="--resume"):
        render_dataset(recorded, output, ["front_cam"], 8)
    with pytest.raises(UserError, match=r"image: \[8, 8, 3\] instead of \[9, 9, 3\]"):
        render_dataset(recorded, output, ["front_cam"], 9, resume=True)
    result = render_dataset(recorded, output, ["front_cam"], 8, resume=True)
    assert drawn == [2, 3] and result["resumed_episodes"] == 2
    assert result["content_hash"] == whole["content_hash"] == content_hash(output)
    again = render_dataset(recorded, output, ["front_cam"], 8, resume=True)
    assert again["frames"] == 0 and again["content_hash"] == whole["content_hash"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.h5", "whole.h5"]


def test_other_cameras_and_other_looks(recorded, tmp_path):
    one = ["front_cam"]
    for name, changes in (("a", {}), ("b", {"randomize": "heavy"}), ("c", {"randomize": "heavy"})):
        render_dataset(recorded, tmp_path / name, one, 16, **changes)
    a, b, c = (pictures(tmp_path / name) for name in "abc")
    assert {k: v.shape[1:] for k, v in a.items()} == {"image": (16, 16, 3)}
    np.testing.assert_array_equal(b["image"], c["image"])
    assert np.abs(a["image"].astype(int) - b["image"]).mean() > 3
    with open_dataset(recorded) as old, open_dataset(tmp_path / "b") as new:
        for key in ("actions", "states", "obs/object_pos"):
            np.testing.assert_array_equal(old.read(3, key), new.read(3, key))
        before, after = (d.episode_attribute(3, "randomization") for d in (old, new))
        assert before != after  # what is recorded is what is seen


def test_nothing_is_overwritten_and_mistakes_are_named(recorded, tmp_path):
    there = tmp_path / "there.h5"
    there.write_text("precious")
    with pytest.raises(ExistingFileError, match="--overwrite"):
        render_dataset(recorded, there, CAMERAS, 8)
    assert there.read_text() == "precious"
    with pytest.raises(UserError, match=r"front_can.*Did you mean 'front_cam'"):
        render_dataset(recorded, there, ["front_can"], 8, overwrite=True)
    with pytest.raises(UserError, match="dataset itself"):
        render_dataset(recorded, recorded, CAMERAS, 8, overwrite=True)
    with pytest.raises(UserError, match="name some with cameras"):
        generate(tmp_path / "x.h5", cameras=())
    assert there.read_text() == "precious" and len(list(tmp_path.iterdir())) == 1
