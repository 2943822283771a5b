"""Recipes are found by name, by path, and in an installed wheel; a wrong name is one sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from simscaleai.errors import MissingFileError, UserError
from simscaleai.recipes import find_config, recipes
from simscaleai.tools.train import check_data
from simscaleai.training.run_config import RunConfig

ROOT = Path(__file__).parent.parent


def test_every_settings_file_is_a_recipe_with_a_description() -> None:
    found = {recipe.path for recipe in recipes()}
    assert found == set((ROOT / "configs").glob("*/*.yaml"))
    for recipe in recipes():
        assert len(recipe.description.split()) >= 3, recipe
        assert "simscale" not in recipe.description, recipe


def test_a_recipe_is_found_by_name_and_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = ROOT / "configs/train/bc_200.yaml"
    assert find_config("bc_200", "train") == path
    assert find_config("configs/train/bc_200.yaml", "train") == path
    assert find_config("reach", "rl") == ROOT / "configs/rl/reach.yaml"
    # a file of the user's comes first
    (tmp_path / "bc_200").write_text("seed: 1")
    assert find_config("bc_200", "train") == Path("bc_200")


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(MissingFileError, match=r"bc_20 is neither .* Did you mean 'bc_200'\?"):
        find_config("bc_20", "train")
    with pytest.raises(MissingFileError, match="simscale recipes"):
        find_config("bc_200", "rl")  # a recipe of another command


def test_the_wheel_carries_the_recipes(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    for recipe in recipes():
        assert f"simscaleai/configs/{recipe.kind}/{recipe.path.name}" in names


def test_training_without_data_is_refused() -> None:
    run = RunConfig()
    with pytest.raises(UserError, match=r"simscale datagen .*simscale train .*--dummy"):
        check_data(run, dummy=False, trial=False)
    check_data(run, dummy=True, trial=False)
    check_data(run, dummy=False, trial=True)
    run.data.path = "data/reach.h5"
    check_data(run, dummy=False, trial=False)
    with pytest.raises(UserError, match="choose one"):
        check_data(run, dummy=True, trial=False)
