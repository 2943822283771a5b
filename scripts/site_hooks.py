"""MkDocs hook: two things that a code host shows rightly and MkDocs does not.

- Links that leave docs/, such as `../benchmarks/results/core-loop.md`, have no page on the site: there they
  lead to the file on GitHub. `tests/test_docs.py` checks that the files exist.
- Code blocks marked `no-run` would not be seen as code: the mark is for the tests alone, and is left out.
"""

from __future__ import annotations

import re
from typing import Any

FILES = "https://github.com/rk-edge/SimScaleAI/blob/main/"
_OUTSIDE = re.compile(r"\]\(\.\./")
_MARK = re.compile(r"^(```\w+) no-run$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page as MkDocs should read it."""
    return _MARK.sub(r"\1", _OUTSIDE.sub(f"]({FILES}", markdown))
