"""Make the reference pages from help texts, signatures and docstrings.

    python scripts/generate_reference.py            # write docs/cli-reference.md
    python scripts/generate_reference.py --check    # exit code 1 if that page is out of date

`cli-reference.md` is kept in git. The Python reference, `api-reference.md` and one page for each package in
`reference/`, is not: the build of the site adds it (`site_hooks.py`). To change a sentence, change the
docstring or help text. `tests/test_reference.py` checks that the first page is up to date and that the others
document every public name. Models, heads, tasks and environments that are added to the package appear by
themselves; another module is one word in `MODULES`.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import pkgutil
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, CommandInfo, OptionInfo

from simscaleai.models import registry
from simscaleai.models.overview import RECORDED, record
from simscaleai.tools.cli import app

CLI_PAGE, API_PAGE = "cli-reference.md", "api-reference.md"
FOLDER = "reference"  # of the pages of the packages
DOCS = Path(__file__).resolve().parent.parent / "docs"
COMMAND = "python scripts/generate_reference.py"

# Page: its modules that a user imports from. `x.*` is every module of x, "." the package itself,
# `registered` the models' modules.
MODULES = {
    "sim": "base_env factory envs.* task arrays physics task_env vector_env vector_attributes autoreset goals"
    " randomization parameters scene camera_poses",
    "sim.robots": "robot controllers kinematics arm panda ur5e",
    "sim.tasks": "reach pick_place instructed reach_color pick_place_color sort reach_around latent"
    " goal_tasks",
    "rendering": "renderer render_camera render_state engine viewer_window",
    "rollout": "loop outcomes frame_recorder policies policy_source policy_adapter policy_client",
    "executors": ". executor process_executor slurm_executor ray_executor",
    "datagen": "generator dagger_rounds relabel rerender validate dataset_hash dataset_info drawn_images edit"
    " exchange filter merge repair split unfinished attempts",
    "storage": "episodes checkpoint find_checkpoint disk",
    "models": "registry registered policy_heads.* policy declarations inference export normalization"
    " observation_encoder backbones language vision towers vision_transformer",
    "training": "trainer training_run component_settings optimizers schedules run_config data.dataset"
    " data.loader",
    "tracking": "log run_info trackers",
    "evaluation": "evaluate evaluate_source compare comparison confidence_sequence stress stress_axes"
    " stress_core",
    "rl": "training runner settings agents.agent agents.mlp_agent agents.ppo agents.pixel_ppo agents.cem"
    " agents.ppo_config agents.pixel_ppo_config rewards.rewards adapters.*",
    "tools": "visualize retrain scaffold policy_server",
    "": "config contract observations policy plugins recipes seeding errors",
}
# Methods that users override, although an underscore hides them from callers.
HOOKS = {"BaseRobotEnv": ("_apply_action", "_get_info", "_apply_domain_randomization")}
SPECIAL = ("__len__", "__getitem__", "__call__")

WIDTH = 88  # of a line of code, before it is broken
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$", re.MULTILINE)
Info = ArgumentInfo | OptionInfo
Row = tuple[inspect.Parameter, Info, Any]

BASE = "What every part stands on: settings, contracts, observations, errors."
NOTE = "<!-- Made by scripts/generate_reference.py from the code: change it there. -->"


def main() -> None:
    texts = {DOCS / CLI_PAGE: cli_page(), RECORDED: record()}
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    names = ", ".join(path.name for path in stale)
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit(f"Out of date: {names}; run `{COMMAND}`.")
        return
    for path in stale:
        path.write_text(texts[path])
    print(f"Changed: {names or 'nothing'}.")


def page(parts: list[str]) -> str:
    return "\n\n".join(filter(None, parts)) + "\n"


def table(heading: str, rows: list[str]) -> str:
    rule = "|---" * len(heading.split("|")) + "|"
    return "\n".join([f"| {heading} |", rule, *rows]) if rows else ""


def fence(code: str, language: str = "python") -> str:
    return f"```{language} no-run\n{code}\n```"


# --- the command line -----------------------------------------------------------------------------------


def cli_page() -> str:
    intro = (
        "Every command shows the same text with `--help` or `-h`. Invalid arguments end with one sentence\n"
        "and exit code 2. `simscale --version` prints the version.\n\n"
        "`--import MODULE|FILE` is an option of every command and may be repeated: it imports a module or\n"
        "Python file that registers tasks, robots, models or agents of your own. See\n"
        "[Your own package](getting-started.md#your-own-package)."
    )
    names = list(commands(app))
    rows = [
        f"| [`{n}`](#simscale-{n.replace(' ', '-')}) | {sentence(c.callback)} |" for n, c in names
    ]
    parts = ["# Command line reference", NOTE, intro, table("command | what it does", rows)]
    for name, command in names:
        parts += command_section(name, command)
    return page(parts)


def commands(of: typer.Typer, prefix: str = "") -> Iterator[tuple[str, CommandInfo]]:
    """Yield every command by its name, and then those of groups, as "data relabel"."""
    for command in of.registered_commands:
        assert command.callback is not None
        yield prefix + (command.name or command.callback.__name__.replace("_", "-")), command
    for group in of.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{prefix}{group.typer_instance.info.name} ")


def command_section(name: str, command: Any) -> Iterator[str]:
    """Heading, text, usage, arguments and options, examples."""
    yield f"## simscale {name}"
    yield prose(inspect.getdoc(command.callback) or "")
    found = list(parameters(command.callback))
    yield fence(" ".join(["simscale", name, *usage(found)]), "text")
    yield table("option | value | default | meaning", [option_row(*row) for row in found])
    if command.epilog:
        _, *lines = command.epilog.split("\n\n")  # the first one is the heading
        yield "Examples:"
        yield fence("\n".join(map(wrapped, lines)), "bash")


def wrapped(command: str) -> str:
    """A command that is no wider than a page, continued with a backslash before an option."""
    lines, rest = [], command
    while len(rest) > WIDTH:
        end = rest.rfind(" --", 0, WIDTH - 1)
        end = rest.rfind(" ", 0, WIDTH - 1) if end <= 4 else end
        lines.append(rest[:end] + " \\")
        rest = "    " + rest[end:].lstrip()
    return "\n".join([*lines, rest])


def parameters(callback: Callable[..., Any]) -> list[Row]:
    """(parameter, its ArgumentInfo or OptionInfo, its type) of a command, arguments first."""
    hints = typing.get_type_hints(callback, include_extras=True)
    found = []
    for parameter in inspect.signature(callback).parameters.values():
        kind, info = typing.get_args(hints[parameter.name])[:2]
        found.append((parameter, info, kind))
    return sorted(found, key=lambda row: not is_argument(row[1]))


def is_argument(info: Info) -> bool:
    return isinstance(info, ArgumentInfo)


def usage(found: list[Row]) -> Iterator[str]:
    if not all(is_argument(info) for _, info, _ in found):
        yield "[OPTIONS]"
    for parameter, info, kind in found:
        if is_argument(info):
            several = "..." if "list" in str(kind) else ""
            required = parameter.default is inspect.Parameter.empty
            yield f"{info.metavar}{several}" if required else f"[{info.metavar}]{several}"


def option_row(parameter: inspect.Parameter, info: Info, kind: Any) -> str:
    # inside Annotated, the first of several names arrives as `default`
    names = [n for n in (info.default, *(info.param_decls or ())) if isinstance(n, str)]
    names = names or [
        info.metavar if is_argument(info) else f"--{parameter.name}".replace("_", "-")
    ]
    default = parameter.default
    if default is inspect.Parameter.empty:
        shown = "required"
    else:
        shown = "" if default is None or default is False else f"`{default}`"
    name = ", ".join(f"`{n}`" for n in names)
    return f"| {name} | {cell(value(info, kind))} | {shown} | {cell(info.help)} |"


def value(info: Info, kind: Any) -> str:
    """What is written after the option: "int, at least 1"."""
    kind = next((k for k in typing.get_args(kind) if k is not type(None)), kind)
    if kind is bool or is_argument(info):
        return ""
    text = info.metavar or kind.__name__.lower()
    if info.min is not None and info.max is not None:
        return f"{text}, {info.min} to {info.max}"
    return text if info.min is None else f"{text}, at least {info.min}"


def cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


# --- Python ---------------------------------------------------------------------------------------------


def api_pages() -> dict[str, str]:
    """The pages of the Python reference by their path in docs/: an overview, and one for each package."""
    documented: dict[int, str] = {}  # id of a class or function: the link to its section
    pages, rows = {}, []
    for package, modules in MODULES.items():
        name, path = dotted(package), page_of(package)
        about = sentence(importlib.import_module(name)) if package else BASE
        sections = [
            part
            for module in expand(name, modules)
            for part in module_section(module, path, documented)
        ]
        pages[path] = page([f"# {name}", NOTE, about, *sections])
        rows.append(f"| [{name}]({path}) | {about} |")
    names = sorted(set(documented.values()), key=str.lower)
    intro = (
        "Public modules, classes and functions, one page for each package. Modules that are not listed and\n"
        "names that start with an underscore are internal. A `UserError` is a `ValueError`."
    )
    parts = ["# Python reference", NOTE, intro, table("package | contents", rows)]
    return {API_PAGE: page([*parts, "## All names", " · ".join(names)]), **pages}


def dotted(package: str) -> str:
    return ".".join(filter(None, ["simscaleai", package]))


def page_of(package: str) -> str:
    return f"{FOLDER}/{package or 'base'}.md"


def expand(package: str, names: str) -> Iterator[Any]:
    """The modules that an entry of `MODULES` names."""
    for name in names.split():
        if name == "registered":
            classes = [registry._models.get(model) for model in registry.list_models()]
            found = sorted({c.__module__ for c in classes if c.__module__.startswith(package)})
        elif name.endswith(".*"):
            folder = importlib.import_module(f"{package}.{name[:-2]}")
            found = [f"{folder.__name__}.{m.name}" for m in pkgutil.iter_modules(folder.__path__)]
        else:
            found = [package if name == "." else f"{package}.{name}"]
        yield from map(importlib.import_module, found)


def module_section(module: Any, path: str, documented: dict[int, str]) -> Iterator[str]:
    things = [(name, thing) for name, thing in public(module) if id(thing) not in documented]
    if not things:
        return
    yield f"## {module.__name__}"
    yield docs(module)
    for name, thing in things:
        documented[id(thing)] = f"[`{name}`]({path}#{name.lower()})"
        yield f"### {name}"
        yield shorter_import(name, thing, module.__name__)
        if inspect.isclass(thing):
            yield from class_section(thing)
        else:
            yield fence(signature(name, thing))
            yield docs(thing)


def shorter_import(name: str, thing: Any, module: str) -> str:
    """The package that exports a thing of one of its modules, as a line of code."""
    for package in ["simscaleai." + key for key in ("sim", *MODULES)]:
        exported = getattr(sys.modules.get(package), "__all__", ())
        if package != module and name in exported and getattr(sys.modules[package], name) is thing:
            return fence(f"from {package} import {name}")
    return ""


def public(module: Any) -> list[tuple[str, Any]]:
    """The module's public classes and functions: `__all__`, or what is defined in it."""
    if hasattr(module, "__all__"):
        exported = [(name, getattr(module, name)) for name in module.__all__]
        return [(k, v) for k, v in exported if inspect.isclass(v) or inspect.isfunction(v)]
    return [
        (name, thing)
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module.__name__
        and is_written(thing)
    ]


def is_written(thing: Any) -> bool:
    """Whether it stands in a file, and is not put together at run time."""
    try:
        return bool(inspect.getsource(thing))
    except OSError:
        return False


def class_section(cls: type) -> Iterator[str]:
    bases = [b.__name__ for b in cls.__bases__ if b is not object]
    head = f"class {cls.__name__}" + (f"({', '.join(bases)})" if bases else "")
    if dataclasses.is_dataclass(cls):
        yield fence("\n".join(["@dataclass", f"{head}:", *fields(cls)]))
    elif getattr(cls.__init__, "__module__", "").startswith("simscaleai."):
        init = textwrap.indent(signature("__init__", cls.__init__), "    ")
        yield fence(f"{head}:\n{init}")
    else:
        yield fence(f"{head}: ...")
    yield docs(cls)
    for name, member in members(cls):
        if isinstance(member, property):
            decorator, function = "@property\n", member.fget
        else:
            decorator = "@classmethod\n" if isinstance(member, classmethod) else ""
            function = getattr(member, "__func__", member)
        yield fence(decorator + signature(name, function))
        yield docs(function)


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself defines, and its hooks."""
    hooks = {*getattr(cls, "__abstractmethods__", ()), *HOOKS.get(cls.__name__, ()), *SPECIAL}
    for name, member in vars(cls).items():
        function = getattr(member, "__func__", member)
        if not isinstance(member, property) and not inspect.isfunction(function):
            continue
        if not name.startswith("_") or name in hooks:
            yield name, member


def fields(cls: type) -> list[str]:
    """The lines of a dataclass's fields, as they stand in the code."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    lines = [line for line in tree.body if isinstance(line, ast.AnnAssign)]
    lines = [line for line in lines if "ClassVar" not in ast.unparse(line.annotation)]
    for line in lines:
        if isinstance(
            line.value, ast.Attribute | ast.Name
        ):  # say what it is, not where it comes from
            line.value = ast.Constant(getattr(cls, ast.unparse(line.target)))
    return [f"    {ast.unparse(line)}".replace("'", '"') for line in lines]


class Words(str):
    """An annotation that shows as it is written, without quotes."""

    __repr__ = str.__str__


def signature(name: str, function: Callable[..., Any]) -> str:
    found = inspect.signature(function)
    kept = [
        p.replace(annotation=Words(p.annotation)) if p.annotation is not p.empty else p
        for p in found.parameters.values()
    ]
    result = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    line = f"def {name}{found.replace(parameters=kept, return_annotation=found.empty)}{result}"
    if len(line) > WIDTH:
        line = f"def {name}(\n{parameter_lines(kept)}\n){result}"
    return line.replace("'", '"')


def parameter_lines(parameters: list[inspect.Parameter]) -> str:
    lines, starred = [], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            lines.append("    *,")
        starred |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        lines.append(f"    {parameter},")
    return "\n".join(lines)


# --- docstrings -----------------------------------------------------------------------------------------


def sentence(thing: Any) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def docs(thing: Any) -> str:
    """A docstring as Markdown."""
    text = inspect.cleandoc(thing.__doc__ or "")
    return "" if text == "See the module docstring." else prose(text)


def prose(text: str) -> str:
    """Google-style sections become lists, indented blocks become code."""
    first, *rest = SECTION.split(text)
    parts = [paragraphs(first)]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        body, _, after = body.partition("\n\n")
        parts += [f"*{title}*", items(textwrap.dedent(body.strip("\n"))), paragraphs(after)]
    return "\n\n".join(filter(None, parts))


def paragraphs(text: str) -> str:
    parts = []
    for is_code, blocks in itertools.groupby(re.split(r"\n{2,}", text.strip("\n")), is_indented):
        part = "\n\n".join(blocks)
        parts.append(fence(textwrap.dedent(part)) if is_code else plain(part))
    return "\n\n".join(filter(None, parts))


def is_indented(block: str) -> bool:
    return block.startswith("    ")


def items(body: str) -> str:
    """`name: text` with indented continuation lines, one bullet each."""
    joined = re.sub(r"\n\s+", " ", body)
    return "\n".join(
        re.sub(r"^([\w*, .]+?): ", r"- `\1`: ", plain(line), count=1) for line in joined.split("\n")
    )


def plain(text: str) -> str:
    """Without what Markdown would take as HTML, outside of code."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else p.replace("<", "&lt;") for p in pieces)


if __name__ == "__main__":
    main()
