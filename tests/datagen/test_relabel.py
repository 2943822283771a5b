"""Labels that are added afterwards are those that data generation records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.datagen import content_hash, generate_dataset, relabel_dataset, validate_dataset
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.storage.episode import LABELS
from simscaleai.tools.cli import app

Change = Callable[[h5py.Group], None]


def generate(output: Path, task: str = "reach_color", **settings: object) -> Path:
    env_kwargs = {"dt": 0.01, **settings}
    generate_dataset(
        task,
        4,
        str(output),
        "scripted",
        domain_randomization=False,
        noise=0.1,
        cameras=["wrist_cam"],
        image_size=16,
        env_kwargs=env_kwargs,
        show_progress=False,
    )
    return output


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("labeled") / "data.h5")


def changed(source: Path, output: Path, change: Change | None = None) -> Path:
    """Write `source` as an earlier version would have, without labels and instructions."""
    shutil.copy(source, output)
    with h5py.File(output, "r+") as file:
        data = file["data"]
        about = json.loads(data.attrs["env_args"])
        about["contract"].pop("instructions", None)
        data.attrs["env_args"] = json.dumps(about)
        for demo in data.values():
            demo.pop(LABELS, None)
            if change is not None:
                change(demo)
    return output


def test_labels_are_those_of_data_generation(labeled: Path, tmp_path: Path) -> None:
    old, new = changed(labeled, tmp_path / "old.h5"), tmp_path / "new.h5"
    made = relabel_dataset(old, new, show_progress=False)
    assert made["instructions"] == 3 and made["total_episodes"] == 4
    # images, attributes, splits and labels are the same, bit by bit
    assert made["content_hash"] == content_hash(new) == content_hash(labeled)
    assert validate_dataset(new).ok
    with h5py.File(new) as file:
        assert "relabeled_from" in json.loads(file["data"].attrs["recipe"])


def test_an_expert_that_acts_otherwise_now_is_noticed(labeled: Path, tmp_path: Path) -> None:
    def move(demo: h5py.Group) -> None:
        demo["actions"][2] = np.clip(demo["actions"][2] - 0.2, -1, 1)

    old = changed(labeled, tmp_path / "old.h5", move)
    with pytest.raises(UserError, match=r"demo_0 the expert's action differs by up to 0\.2 from"):
        relabel_dataset(old, tmp_path / "new.h5", show_progress=False)
    assert not (tmp_path / "new.h5").exists() and len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_labeled_is_refused(labeled: Path, tmp_path: Path) -> None:
    one = generate(tmp_path / "one.h5", "reach")
    with pytest.raises(UserError, match=r"'reach' .* asks for one thing only"):
        relabel_dataset(one, tmp_path / "new.h5", show_progress=False)
    with pytest.raises(UserError, match="is the dataset itself"):
        relabel_dataset(one, one, show_progress=False)
    with pytest.raises(ExistingFileError, match="--overwrite"):
        relabel_dataset(labeled, one, show_progress=False)
    foreign = tmp_path / "foreign.h5"
    shutil.copy(labeled, foreign)
    with h5py.File(foreign, "r+") as file:
        file["data"].attrs["env_args"] = "{}"
    with pytest.raises(UserError, match="can be relabeled"):
        relabel_dataset(foreign, tmp_path / "new.h5", show_progress=False)
    assert not (tmp_path / "new.h5").exists()


def test_the_command(labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new.h5"
    command = ["data", "relabel", str(labeled), "--output", str(output)]
    app(command, standalone_mode=False)
    assert output.exists() and "instructions" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        app(command)  # it is there now
    assert ended.value.code == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("Error: ") and "exists" in sentence
