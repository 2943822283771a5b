"""The reference pages: up to date, complete, and examples of commands that can be parsed."""

from __future__ import annotations

import importlib
import inspect
import re
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
    Sim Task Parameter Robot Gripper EndEffectorController JointController register_controller Renderer
    array_namespace closeness columns plot_env record_video PolicyClient UserError
"""
NAMES = re.compile(r"^#{2,3} (\w[\w.]*)$", re.MULTILINE)
IMPORT = re.compile(r"from (simscaleai[\w.]*) import (\([^)]*\)|[^\n#]*)")


@pytest.fixture(scope="module")
def cli_page() -> str:
    text: str = GENERATOR["cli_page"]()
    return text


@pytest.fixture(scope="module")
def api_pages() -> dict[str, str]:
    pages: dict[str, str] = GENERATOR["api_pages"]()
    return pages


def test_cli_page_is_up_to_date(cli_page: str) -> None:
    name = GENERATOR["CLI_PAGE"]
    written = (ROOT / "docs" / name).read_text()
    if written != cli_page:
        made = cli_page.splitlines()
        news = next((line for line in made if line not in written.splitlines()), "a line less")
        pytest.fail(f"docs/{name} is out of date (first: {news!r}); run `{GENERATOR['COMMAND']}`.")


def test_public_names_are_documented(api_pages: dict[str, str]) -> None:
    documented = {name for text in api_pages.values() for name in NAMES.findall(text)}
    assert [name for name in PUBLIC.split() if name not in documented] == []


def test_what_packages_export_is_documented(api_pages: dict[str, str]) -> None:
    documented = {name for text in api_pages.values() for name in NAMES.findall(text)}
    for package in (
        "sim",
        "rendering",
        "rollout",
        "datagen",
        "models",
        "training",
        "evaluation",
        "rl",
    ):
        module = importlib.import_module(f"simscaleai.{package}")
        things = [
            name
            for name in module.__all__
            if inspect.isfunction(getattr(module, name)) or inspect.isclass(getattr(module, name))
        ]
        assert [name for name in things if name not in documented] == [], package


def test_every_error_text_has_an_anchor_in_troubleshooting() -> None:
    """Also those of code that is written tomorrow: each has a section, or this fails."""
    texts = runpy.run_path(str(ROOT / "scripts" / "error_texts.py"))
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    made = texts["with_texts"](page)
    anchors = re.findall(r'^- <span id="([^"]+)"></span>', made, re.MULTILINE)
    assert len(set(anchors)) == len(anchors) > 300
    assert "is not a setting; write KEY=VALUE, for example seed=1." in made
    found = texts["sections"](page, texts["error_texts"]())
    assert all(found.values()), "a section without an error: the code has moved"
    stranger = texts["ErrorText"]("UserError", "nowhere.at_all", "A new sentence.")
    with pytest.raises(ValueError, match="A new sentence"):
        texts["sections"](page, [stranger])


def test_no_heading_stands_twice_on_a_page(api_pages: dict[str, str]) -> None:
    """Otherwise links to the second one would lead to the first."""
    for path, text in api_pages.items():
        headings = [name.lower() for name in NAMES.findall(text)]
        assert len(set(headings)) == len(headings), path


def test_what_pages_and_templates_import_is_documented(api_pages: dict[str, str]) -> None:
    """A reader who meets a class or function in an example finds it in the reference."""
    documented = {name for text in api_pages.values() for name in NAMES.findall(text)}
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    files += (ROOT / "simscaleai" / "templates").rglob("*.tmpl")
    missing = set()
    for file in files:
        for module, names in IMPORT.findall(file.read_text()):
            for name in re.findall(r"\w+", names.split(" as ")[0]):
                place = importlib.import_module(module)
                if not hasattr(place, name):  # a module that nobody has imported yet
                    importlib.import_module(f"{module}.{name}")
                thing = getattr(place, name)
                if callable(thing) and name not in documented:
                    missing.add(f"{file.name}: {module}.{name}")
    assert sorted(missing) == []


def test_every_command_has_its_section(cli_page: str) -> None:
    for name, command in COMMANDS.items():
        _, _, section = cli_page.partition(f"\n## simscale {name}\n")
        section = section.split("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                shared = "--import" in parameter.opts  # of every command; said once, at the top
                where = cli_page.split("\n## ")[0] if shared else section
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
