"""MkDocs hooks: add the Python reference to the site, and adapt pages that are written for a code host.

- The pages of the Python reference are generated from the docstrings when the site is built, and added to the
  menu; they are not kept in git. So are the error texts of `troubleshooting.md` (`error_texts.py`).
- The front page shows the table of results of `README.md`, which is kept in one place.
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

ROOT = Path(__file__).resolve().parent.parent
FILES = "https://github.com/rk-edge/SimScaleAI/blob/main/"
_MARK = re.compile(r"^(```\w+) no-run$", re.MULTILINE)
_RESULTS = re.compile(r"<!-- results -->\n(.*?)<!-- /results -->", re.DOTALL)
_RESULTS_HERE = "<!-- results of README.md -->"
_pages: dict[str, str] = {}  # of the Python reference, by their path in docs/


def on_config(config: Any) -> Any:
    """Generate the Python reference, and put its pages where the menu says `Python: api-reference.md`."""
    generator = runpy.run_path(str(ROOT / "scripts" / "generate_reference.py"))
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


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page as MkDocs should read it."""
    source = page.file.src_uri
    if source == "troubleshooting.md":
        markdown = runpy.run_path(str(ROOT / "scripts" / "error_texts.py"))["with_texts"](markdown)
    if source == "index.md":
        markdown = markdown.replace(_RESULTS_HERE, results())
    outside = re.compile(rf"\]\((?:\.\./){{{source.count('/') + 1}}}(?!\.)")
    return _MARK.sub(r"\1", outside.sub(f"]({FILES}", markdown))


def results() -> str:
    """The results in README.md, with links as they are in docs/."""
    found = _RESULTS.search((ROOT / "README.md").read_text())
    assert found, "README.md has no results between <!-- results --> and <!-- /results -->"
    return found[1].replace("](docs/", "](").replace("](benchmarks", "](../benchmarks")
