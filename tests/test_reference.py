"""The reference pages: up to date, complete, and examples of commands that can be parsed."""

from __future__ import annotations

import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from simscaleai.tools.cli import app

ROOT = Path(__file__).parent.parent
GENERATOR = runpy.run_path(str(ROOT / "scripts" / "generate_reference.py"))
COMMANDS: dict[str, Any] = {}
for _name, _command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
    _inner = getattr(_command, "commands", None)  # of a group such as `data`
    COMMANDS |= (
        {_name: _command} if _inner is None else {f"{_name} {k}": c for k, c in _inner.items()}
    )
PUBLIC = """
    CameraConfig SimConfig BaseRobotEnv make_env make_vec_env register_env list_envs ReachEnv PickPlaceEnv
    register_model create_model list_models ModelRegistry BehaviorCloning MLPActionHead
    VisionLanguageAction PatchEmbedding VisionEncoder SimpleLanguageEncoder
    DiffusionActionHead SinusoidalPosEmbed ResidualBlock FlowMatchingActionHead
    TrainConfig Trainer TrajectoryDataset DummyTrajectoryDataset
    EvalConfig evaluate_policy generate_dataset
"""


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {
        "cli-reference.md": GENERATOR["cli_page"](),
        "api-reference.md": GENERATOR["api_page"](),
    }


def test_cli_page_is_up_to_date(pages: dict[str, str]) -> None:
    name = GENERATOR["CLI_PAGE"]
    written = (ROOT / "docs" / name).read_text()
    if written != pages[name]:
        made = pages[name].splitlines()
        news = next((line for line in made if line not in written.splitlines()), "a line less")
        pytest.fail(f"docs/{name} is out of date (first: {news!r}); run `{GENERATOR['COMMAND']}`.")


def test_public_names_are_documented(pages: dict[str, str]) -> None:
    missing = [n for n in PUBLIC.split() if f"\n#### {n}\n" not in pages["api-reference.md"]]
    assert not missing


def test_every_command_has_its_section(pages: dict[str, str]) -> None:
    for name, command in COMMANDS.items():
        _, _, section = pages["cli-reference.md"].partition(f"\n## simscale {name}\n")
        section = section.split("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                shared = "--import" in parameter.opts  # of every command; said once, at the top
                where = pages["cli-reference.md"].split("\n## ")[0] if shared else section
                assert f"`{parameter.opts[0]}" in where, f"{name}: {parameter.opts}"


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_a_command_can_be_parsed(name: str) -> None:
    command = COMMANDS[name]
    lines = [line for line in (command.epilog or "").splitlines() if line.startswith("simscale ")]
    assert lines, f"simscale {name} shows no example"
    for line in lines:
        _, *words = shlex.split(line)
        depth = len(name.split())
        shown, words = " ".join(words[:depth]), words[depth:]
        assert shown == name, line
        command.make_context(name, words)  # refuses what it does not know
