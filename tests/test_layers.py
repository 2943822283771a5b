"""Imports go down only, and dangerous calls have one home or none."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "simscaleai"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What a part may import lies strictly below it, or in the part itself; the base modules are one part.
LEVELS = {
    "tools": 6,
    "rl": 5,
    "datagen": 4,
    "training": 4,
    "evaluation": 4,
    "rollout": 3,
    "sim": 2,
    "models": 2,
    "rendering": 1,
}

# {part: libraries it never imports, wherever in a file}. Physics is reached through `sim` alone, so that
# another backend changes one part; a simulator needs no PyTorch, and a training machine no simulator.
FORBIDDEN = {
    "sim": {"torch"},
    "rendering": {"torch"},
    "datagen": {"torch"},
    "rollout": {"torch", "mujoco"},
    "evaluation": {"torch", "mujoco"},
    "rl": {"mujoco"},
    "storage": {"mujoco", "gymnasium"},
    "tracking": {"mujoco", "gymnasium"},
    "models": {"mujoco", "gymnasium"},
    "training": {"mujoco", "gymnasium"},
}


def part(dotted: str) -> str:
    """'simscaleai.sim.task' -> 'sim'; a base module -> ''."""
    second = dotted.split(".")[1] if "." in dotted else ""
    return second if second in LEVELS else ""


@cache
def nodes(path: Path) -> list[ast.AST]:
    """The imports and calls of a file."""
    kinds = (ast.Import, ast.ImportFrom, ast.Call)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(importer: str, imported: str) -> bool:
    """Whether a module of the part `importer` may not import from the part `imported`."""
    return imported != importer and LEVELS.get(imported, 0) >= LEVELS.get(importer, 0)


def test_the_rule_itself() -> None:
    assert not upward("tools", "rl")
    assert not upward("sim", "")
    assert not upward("sim", "sim")
    assert upward("sim", "rl")
    assert upward("training", "rl")
    assert upward("rollout", "evaluation") and not upward("rl", "evaluation")
    assert upward("", "models")


def test_imports_go_down() -> None:
    wrong = []
    for path in MODULES:
        own = part("simscaleai." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
        home = path.relative_to(PACKAGE).parts[0]
        for name in imports(path):
            library = name.split(".")[0]
            if library == "simscaleai" and upward(own, part(name)):
                wrong.append(f"{path} imports {name} from a layer above it")
            if library in FORBIDDEN.get(home, set()):
                wrong.append(f"{path} imports {name}")
    assert wrong == []


def test_every_part_that_is_forbidden_a_library_exists() -> None:
    assert all((PACKAGE / part).is_dir() for part in FORBIDDEN)


def module_name(path: Path) -> str:
    """.../simscaleai/sim/__init__.py -> 'simscaleai.sim'."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph(paths: list[Path]) -> dict[str, set[str]]:
    """{module: modules that it imports}, wherever in the file, also for type checkers alone.

    `from package import name` counts for the package only where the name is no module of its own.
    """
    known = {module_name(path) for path in paths}
    found: dict[str, set[str]] = {}
    for path in paths:
        targets = {name if name in known else name.rpartition(".")[0] for name in imports(path)}
        found[module_name(path)] = (targets & known) - {module_name(path)}
    return found


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, first and last the same; [] if there is none."""
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in done:
            for target in sorted(edges[module]):
                if found := visit(target, [*way, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in sorted(edges) if (found := visit(module, []))), [])


def test_circles_are_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_no_modules_import_each_other() -> None:
    assert circle(graph(MODULES)) == []


# A training loop that never imports `sim` is what lets closed-loop evaluation come in as a function.
@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("simscaleai.sim, simscaleai.datagen, simscaleai.rollout", "torch"),
        ("simscaleai.models, simscaleai.training", "mujoco"),
        ("simscaleai.tools.cli", "torch"),
        ("simscaleai.tools.cli", "mujoco"),
    ],
)
def test_import_does_not_load(modules: str, absent: str) -> None:
    code = f"import sys, {modules}; sys.exit({absent!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def dotted(node: ast.expr) -> str:
    """'a.b.c', or '.b.c' after anything but a name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def names_used(path: Path) -> set[str]:
    """Every called name and imported module, dotted as written: {'eval', 'torch.load', 'pickle'}."""
    calls = {dotted(node.func) for node in nodes(path) if isinstance(node, ast.Call)}
    return calls | set(imports(path)) | {name.split(".")[0] for name in imports(path)}


def test_no_code_from_data() -> None:
    dangerous = {"eval", "exec", "pickle", "dill", "cloudpickle", "marshal", "joblib"}
    used = {path: names_used(path) for path in MODULES}
    assert {path: names & dangerous for path, names in used.items() if names & dangerous} == {}
    loading = [path for path in MODULES if any(n.endswith("torch.load") for n in used[path])]
    assert loading == [PACKAGE / "storage" / "checkpoint.py"]


def test_torch_load_takes_weights_only() -> None:
    path = PACKAGE / "storage" / "checkpoint.py"
    calls = [
        node
        for node in nodes(path)
        if isinstance(node, ast.Call) and dotted(node.func) == "torch.load"
    ]
    assert calls
    for call in calls:
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert keywords.get("weights_only") == "True"
