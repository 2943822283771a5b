"""Print the size and readability figures of the package: `python scripts/measure_code.py [FOLDER]`.

`--by-folder` adds a line for each folder, and `--by-file` one for each file. The script counts files,
functions, comments and `Any` of every `.py` file below FOLDER (default: `simscaleai`), as the style guide in
`docs/contributing.md` asks for. Lines of code are lines that hold a token other than a comment or a
docstring; `__init__.py` files without code are left out of the median.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import tokenize
from dataclasses import dataclass
from pathlib import Path

_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}
LONG_FILE = 450  # lines
LONG_FUNCTION = 40  # lines, docstring left out


@dataclass
class SourceFile:
    """Counts of one file."""

    path: Path
    lines: int
    code: int
    comments: int
    any_names: int
    functions: list[tuple[str, int]]  # (name, lines without docstring)


def measure(path: Path) -> SourceFile:
    """Return the counts of the Python file `path`."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings: set[int] = set()
    functions = []
    for node in ast.walk(tree):
        length = 0
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
            length = (first.end_lineno or first.lineno) - first.lineno + 1
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append(
                (node.name, (node.end_lineno or node.lineno) - node.lineno + 1 - length)
            )
    code: set[int] = set()
    comments = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        comments += token.type == tokenize.COMMENT
        if token.type not in _LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    names = sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))
    return SourceFile(
        path, len(text.splitlines()), len(code - docstrings), comments, names, functions
    )


def print_groups(kind: str, groups: dict[str, list[SourceFile]]) -> None:
    """Print one table line for each group of files: its code, comments and `Any`."""
    print(
        f"\n| {kind} | files | code | comments per 100 | `Any` per 1,000 |\n|---|---|---|---|---|"
    )
    for name, files in sorted(groups.items()):
        code = sum(file.code for file in files)
        comments = 100 * sum(file.comments for file in files) / code
        any_names = 1000 * sum(file.any_names for file in files) / code
        print(f"| {name} | {len(files)} | {code} | {comments:.1f} | {any_names:.1f} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="simscaleai", type=Path)
    parser.add_argument("--longest", type=int, default=5, help="how many of the longest to list")
    parser.add_argument("--by-folder", action="store_true", help="add a line for each folder")
    parser.add_argument("--by-file", action="store_true", help="add a line for each file")
    arguments = parser.parse_args()
    files = [measure(path) for path in sorted(arguments.folder.rglob("*.py"))]
    files = [file for file in files if file.code]
    code = sum(file.code for file in files)
    functions = [(f"{file.path}:{name}", n) for file in files for name, n in file.functions]
    long_functions = [entry for entry in functions if entry[1] > LONG_FUNCTION]
    stems = [file.path.stem for file in files if not re.fullmatch(r"__\w+__", file.path.stem)]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    rows = {
        "files": f"{len(files)}",
        "lines, of them code": f"{sum(file.lines for file in files)}, {code}",
        "median lines of a file": f"{statistics.median(file.lines for file in files):g}",
        f"files over {LONG_FILE} lines": f"{sum(file.lines > LONG_FILE for file in files)}",
        f"functions over {LONG_FUNCTION} lines": f"{len(long_functions)} of {len(functions)}"
        f" ({100 * len(long_functions) / len(functions):.1f} %)",
        "comments per 100 lines of code": f"{100 * sum(f.comments for f in files) / code:.1f}",
        "`Any` per 1,000 lines of code": f"{1000 * sum(f.any_names for f in files) / code:.1f}",
        "file names used more than once": ", ".join(repeated) or "none",
    }
    print("| measure | value |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    if arguments.by_folder:
        folders: dict[str, list[SourceFile]] = {}
        for file in files:
            folders.setdefault(str(file.path.parent), []).append(file)
        print_groups("folder", folders)
    if arguments.by_file:
        print_groups("file", {str(file.path): [file] for file in files})
    print("\nLongest files:")
    for file in sorted(files, key=lambda file: -file.lines)[: arguments.longest]:
        print(f"  {file.lines:5d}  {file.path}")
    print("Longest functions:")
    for name, length in sorted(functions, key=lambda entry: -entry[1])[: arguments.longest]:
        print(f"  {length:5d}  {name}")


if __name__ == "__main__":
    main()
