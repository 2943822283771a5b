"""Files of other packagers say the same as `pyproject.toml`."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from simscaleai import __version__

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"mujoco-core": "mujoco-python", "torch": "pytorch"}  # {on PyPI: on conda-forge}


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_conda_recipe_has_the_requirements_of_the_wheel() -> None:
    recipe = read("conda/recipe.yaml")
    wanted = [re.fullmatch(r"([\w-]+)(.*)", text) for text in PROJECT["dependencies"]]
    expected = {f"{CONDA_NAMES.get(m[1], m[1])} {m[2]}" for m in wanted if m is not None}
    python = f"python {PROJECT['requires-python']}"
    assert set(recipe["requirements"]["run"]) == {*expected, python}
    assert recipe["context"]["version"] == __version__
    scripts = {f"{name} = {place}" for name, place in PROJECT["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) == scripts


def test_every_python_that_is_promised_is_tested() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    jobs = read(".github/workflows/ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == promised
    others = jobs["other-systems"]["strategy"]["matrix"]
    assert set(others["os"]) == {"macos-latest", "windows-latest"}
    assert {promised[0], promised[-1]} <= set(others["python"])


def test_every_script_of_a_job_is_there() -> None:
    included = read(".github/workflows/slow.yml")["jobs"]["slow"]["strategy"]["matrix"]["include"]
    for script in [".ci/run", *re.findall(r"\.ci/\w+", " ".join(i["command"] for i in included))]:
        assert os.access(ROOT / script, os.X_OK), script


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_an_image_copies_what_exists_and_is_not_ignored(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    kept = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    sources = [s for line in re.findall(r"^COPY (.*)", text, re.M) for s in line.split()[:-1]]
    assert set(sources) == set(kept)
    assert all((ROOT / source).exists() for source in sources)
    assert ("whl/cpu" in text) == (name == "Dockerfile")


def test_the_images_differ_in_the_build_of_torch_alone() -> None:
    def steps(name: str) -> list[str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return [
            line.replace(' --extra-index-url "$TORCH_INDEX"', "")
            for line in lines
            if line.startswith(("FROM", "WORKDIR", "COPY", "RUN", "ENTRYPOINT", "CMD"))
        ]

    assert steps("Dockerfile") == steps("Dockerfile.cuda")
