"""A hash says what a model is made of, not where its files lie."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import mujoco
import numpy as np
import pytest

from simscaleai.datagen import content_hash, generate_dataset, render_dataset, validate_dataset
from simscaleai.datagen.recipe import differences, is_model, model_sha256
from simscaleai.sim.robots.panda import PANDA
from simscaleai.sim.scene import ASSETS, load_model
from simscaleai.storage import episode_writer
from simscaleai.storage.episode import combine_digests
from simscaleai.storage.episodes import open_dataset


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The scene of `reach` and its robot in two folders, as two installations have them."""
    found = []
    for name in ("a", "another/and longer"):
        folder = tmp_path_factory.mktemp("place") / name
        shutil.copytree(ASSETS, folder)
        found.append(folder / "reach.xml")
    return found


def test_two_folders_agree(places: list[Path]) -> None:
    robots = [replace(PANDA, mjcf=path.parent / "panda.xml") for path in places]
    models = [load_model(*pair) for pair in zip(places, (0.002, 0.002), robots, strict=True)]
    assert models[0].paths != models[1].paths
    assert model_sha256(models[0]) == model_sha256(models[1])
    assert model_sha256(load_model(ASSETS / "reach.xml", 0.002, PANDA)) == model_sha256(models[0])


@pytest.mark.parametrize(
    "change",
    [
        "model.opt.gravity[2] = -3",
        "model.opt.timestep = 0.001",
        "model.opt.disableflags = 1",
        "model.body_mass[3] += 1e-9",
        "model.mesh_vert[5, 0] += 1e-3",
        "model.geom_rgba[2, 0] = 0.123",
        "model.vis.headlight.diffuse[0] = 0.9",
        "model.stat.extent = 7",
        "model.tex_data[0] += 1",
    ],
)
def test_every_part_counts(change: str) -> None:
    model = load_model(ASSETS / "reach.xml", 0.002, PANDA)
    before = model_sha256(model)
    exec(change, {"model": model})
    assert model_sha256(model) != before


def test_names_count() -> None:
    text = '<mujoco><worldbody><geom name="{}" size="1"/></worldbody></mujoco>'
    hashes = {
        model_sha256(mujoco.MjModel.from_xml_string(text.format(name))) for name in ("ab", "cd")
    }
    assert len(hashes) == 2


def test_hashes_of_earlier_versions_are_known(places: list[Path]) -> None:
    model = load_model(places[0], 0.002, PANDA)
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    assert is_model(model, hashlib.sha256(buffer.data).hexdigest())
    assert is_model(model, model_sha256(model))
    assert not is_model(model, "0" * 64)


def test_data_of_a_scene_that_lies_elsewhere_is_the_same(
    places: list[Path], tmp_path: Path
) -> None:
    made = []
    for k, path in enumerate(places):
        made.append(tmp_path / f"{k}.h5")
        settings = {"xml_path": str(path), "dt": 0.005}
        generate_dataset("reach", 3, str(made[k]), max_steps=4, env_kwargs=settings)
        assert validate_dataset(made[k]).ok
    assert content_hash(made[0]) == content_hash(made[1])
    # a run begun there is gone on with here, and its pictures can be drawn
    shutil.copy(made[0], made[1])
    stats = generate_dataset(
        "reach", 3, str(made[1]), max_steps=4, env_kwargs=settings, resume=True
    )
    assert stats["resumed_episodes"] == 3
    drawn = tmp_path / "drawn.h5"
    for source in made:
        render_dataset(source, drawn, ["front_cam"], 8, resume=drawn.exists())


def test_files_that_were_hashed_with_their_place_are_valid(
    places: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = partial(combine_digests, with_path=True)
    monkeypatch.setattr(episode_writer, "combine_digests", earlier)
    path = tmp_path / "old.h5"
    settings = {"xml_path": str(places[0]), "dt": 0.005}
    made = generate_dataset("reach", 2, str(path), max_steps=3, env_kwargs=settings)
    report = validate_dataset(path)
    assert report.ok and report.content_hash != made["content_hash"]


def test_a_path_is_no_difference() -> None:
    theirs = {"environment": {"env_config": {"xml_path": "a", "dt": 1}}, "model_sha256": "x"}
    ours = {"environment": {"env_config": {"xml_path": "b", "dt": 2}}, "model_sha256": "y"}
    assert differences(theirs, ours) == [
        "environment.env_config.dt: 1 instead of 2",
        "model_sha256: 'x' instead of 'y'",
    ]


def test_pictures_of_an_edited_scene_name_the_scene_that_they_show(
    places: list[Path], tmp_path: Path
) -> None:
    scene = tmp_path / "mine.xml"
    scene.write_text(places[0].read_text())
    source, drawn = tmp_path / "d.h5", tmp_path / "drawn.h5"
    settings = {"xml_path": str(scene), "dt": 0.005}
    generate_dataset("reach", 2, str(source), max_steps=3, env_kwargs=settings)
    assert render_dataset(source, drawn, ["front_cam"], 8)["edited_scene"] == 0
    scene.write_text(
        scene.read_text().replace("</worldbody>", '<geom size="1" pos="0 0 9"/></worldbody>')
    )
    assert render_dataset(source, drawn, ["front_cam"], 8, overwrite=True)["edited_scene"] == 2
    model = load_model(scene, 0.005, PANDA)
    with open_dataset(drawn) as data:
        assert all(is_model(model, data.episode_attribute(i, "model_sha256")) for i in range(2))
