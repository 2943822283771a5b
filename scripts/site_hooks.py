"""MkDocs hooks: add the Python reference to the site, and adapt pages that are written for a code host.

- `api-reference.md` is generated from the docstrings when the site is built; it is not kept in git.
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
_MARK = re.compile(r"^(```\w+) no-run$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated page to the files of the site."""
    generator = runpy.run_path(str(Path(__file__).parent / "generate_reference.py"))
    page = File.generated(config, generator["API_PAGE"], content=generator["api_page"]())
    files.append(page)
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page as MkDocs should read it."""
    return _MARK.sub(r"\1", _OUTSIDE.sub(f"]({FILES}", markdown))
