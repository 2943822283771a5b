"""List the error texts of the package, for `docs/troubleshooting.md`.

Each section of that page ends with a comment such as

    <!-- errors: MissingFileError sim.robots* "pip install" -->

that says which texts belong to it: those of a class of errors, of modules (as of `fnmatch`), or with a
phrase. A phrase goes before a class, a class before a module, and a longer pattern before a shorter one. The
build of the site writes the texts there (`site_hooks.py`), each with an anchor; they are not kept in git. A
text without a section is an error of the build and of `tests/test_reference.py`.

Texts are read from the source: "…" stands for what is filled in at run time.
"""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "simscaleai"
MARKER = re.compile(r"<!-- errors: (.+?) -->")
WORD = re.compile(r'"[^"]+"|\S+')
ROOTS = {"UserError", "PolicyServerError"}  # and all classes derived from them
UNKNOWN = "unknown_name"  # the function that makes the error for a name that is not known
SLUG_WORDS = 8
KINDS = (ast.Call, ast.ClassDef)  # what is looked at


class ErrorText(NamedTuple):
    """A text that users may meet: its class or `unknown_name`, its module ("sim.scene") and its words."""

    kind: str
    module: str
    text: str


@cache
def error_texts() -> list[ErrorText]:
    """Every text of the package, once for each module."""
    nodes = {
        path: [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, KINDS)]
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    kinds = error_classes([n for of in nodes.values() for n in of if isinstance(n, ast.ClassDef)])
    found = []
    for path, of_module in nodes.items():
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in of_module:
            if isinstance(node, ast.Call) and node.args:
                name = last_name(node.func)
                if name in kinds:
                    found.append(ErrorText(name, module, words(node.args[0])))
                elif name == UNKNOWN:
                    text = f"Unknown {words(node.args[0])} …; known: …."
                    found.append(ErrorText(UNKNOWN, module, text))
    # a text of nothing but parts that are filled in says nothing here
    return [error for error in dict.fromkeys(found) if re.search(r"\w{3}", error.text)]


def error_classes(nodes: list[ast.ClassDef]) -> set[str]:
    """The names of `ROOTS` and of the classes that derive from them."""
    kinds = set(ROOTS)
    while True:
        derived = {c.name for c in nodes if kinds & {last_name(base) for base in c.bases}}
        if derived <= kinds:
            return kinds
        kinds |= derived


def last_name(node: ast.expr) -> str:
    """`c` of `c` and of `a.b.c`; "" of anything else."""
    return getattr(node, "id", getattr(node, "attr", ""))


def words(node: ast.expr) -> str:
    """The text that an expression gives, with "…" for all that is not written in it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(words(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return words(node.left) + words(node.right)
    return "…"


def sections(page: str, errors: list[ErrorText]) -> dict[str, list[ErrorText]]:
    """Sort errors into the sections of a page: {marker: its errors}; ValueError for one without a section."""
    markers = {marker: WORD.findall(marker) for marker in MARKER.findall(page)}
    sorted_in: dict[str, list[ErrorText]] = {marker: [] for marker in markers}
    homeless = []
    for error in errors:
        ranks = [(rank(error, p), m) for m, patterns in markers.items() for p in patterns]
        best, marker = max(ranks)
        (homeless if best == (0, 0) else sorted_in[marker]).append(error)
    if homeless:
        listed = "\n".join(f"  {e.module}: {e.text}" for e in homeless)
        raise ValueError(f"No section of docs/troubleshooting.md is for these errors:\n{listed}")
    return sorted_in


def rank(error: ErrorText, pattern: str) -> tuple[int, int]:
    """How well a pattern of a marker fits an error; (0, 0) if it does not."""
    if pattern.startswith('"'):
        return (3, len(pattern)) if pattern.strip('"') in error.text else (0, 0)
    if pattern == error.kind:
        return (2, 0)
    return (1, len(pattern)) if fnmatch.fnmatch(error.module, pattern) else (0, 0)


def with_texts(page: str) -> str:
    """Return the page with the texts of each section in place of its marker."""
    taken: set[str] = set()
    lists = {
        marker: "\n".join(item(text, taken) for text in sorted({e.text for e in errors}))
        for marker, errors in sections(page, error_texts()).items()
    }
    return MARKER.sub(lambda match: lists[match[1]], page)


def item(text: str, taken: set[str]) -> str:
    """A text as an item of a list, with an anchor of its first words."""
    slug = "-".join(re.findall(r"[a-z0-9]+", text.lower())[:SLUG_WORDS])
    number = 2
    while (anchor := slug if slug not in taken else f"{slug}-{number}") in taken:
        number += 1
    taken.add(anchor)
    escaped = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
    return f'- <span id="{anchor}"></span>' + re.sub(r"([*_`\[\]|])", r"\\\1", escaped)


def lines(page: str) -> Iterator[str]:
    """How many texts each section has, for `python scripts/error_texts.py`."""
    for marker, errors in sections(page, error_texts()).items():
        yield f"{len(errors):4d}  {marker}"


if __name__ == "__main__":
    print("\n".join(lines((PACKAGE.parent / "docs" / "troubleshooting.md").read_text())))
