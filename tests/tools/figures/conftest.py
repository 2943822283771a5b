"""Small data of known content."""

from __future__ import annotations

from pathlib import Path

import pytest

from simscaleai.datagen import generate_dataset


@pytest.fixture(scope="package")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of pick_place by the expert, cut off at 26 steps, which is too few for some."""
    path = tmp_path_factory.mktemp("data") / "pick_place.h5"
    generate_dataset("pick_place", 3, str(path), "scripted", max_steps=26)
    return path
