"""MkDocs hooks: add the Python reference to the site, and adapt pages that are written for a code host.

- The pages of the Python reference are generated from the docstrings when the site is built, and added to the
  menu; they are not kept in git.
- Links out of docs/, such as `../benchmarks/results/core-loop.md`, have no page on the site; they are changed
  to links to the file on GitHub. `tests/test_docs.py` checks that the files exist.
- The mark `no-run` of code blocks is removed, since MkDocs would not recognize the language; it is for
  tests.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FILES = "https://github.com/rk-edge/SimScaleAI/blob/main/"
_OUTSIDE = re.compile(r"\]\(\.\./")
_pages: dict[str, str] = {}  # of the Python reference, by their path in docs/
_MARK = re.compile(r"^(```\w+) no-run$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Generate the Python reference, and put its pages where the menu says `Python: api-reference.md`."""
    generator = runpy.run_path(str(Path(__file__).parent / "generate_reference.py"))
    _pages.update(generator["api_pages"]())
    overview, *packages = _pages
    reference = next(section["Reference"] for section in config.nav if "Reference" in section)
    place = reference.index({"Python": overview})
    titled = [{Path(path).stem: path} for path in packages]
    reference[place] = {"Python": [overview, *titled]}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages to the files of the site."""
    for path, text in _pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page as MkDocs should read it."""
    return _MARK.sub(r"\1", _OUTSIDE.sub(f"]({FILES}", markdown))
