"""The pages are true: their Python blocks and `simscale` commands run, and their links lead somewhere.

The blocks of a page run in order in one empty folder, as a reader would run them, except that episode
and step counts are cut down. A block marked `no-run` is left out: it installs something, or needs what a
test machine may not have.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from simscaleai.tools.cli import main

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
COUNT = re.compile(r"(?P<name>n[-_]episodes|max[-_]steps)(?P<gap>[ =]+)(?P<number>[\d_]+)")
LIMITS = {"n_episodes": 6, "max_steps": 20}


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The page's blocks that run, with shortened counts."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        language, *marks = match["info"].split() or [""]
        if language in ("python", "bash") and "no-run" not in marks:
            line = text.count("\n", 0, match.start("code")) + 1
            found.append(Block(page, line, language, COUNT.sub(shorten, match["code"])))
    return found


def shorten(match: re.Match[str]) -> str:
    limit = LIMITS[match["name"].replace("-", "_")]
    return f"{match['name']}{match['gap']}{min(int(match['number']), limit)}"


def commands(code: str) -> list[list[str]]:
    """The words of each command, comments left out and continued lines joined."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_command(block: Block, words: list[str]) -> None:
    assert words[0] == "simscale", f"{block}: {words[0]!r} is not run here; mark the block no-run"
    try:
        main(words[1:])
    except SystemExit as end:
        assert not end.code, f"{block}: {shlex.join(words)} ended with {end.code}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)
        else:
            for words in commands(block.code):
                run_command(block, words)


def test_shortened_counts() -> None:
    code = "simscale train --max-steps 20_000  # long\nf(n_episodes=100, max_steps=5)"
    assert (
        COUNT.sub(shorten, code)
        == "simscale train --max-steps 20  # long\nf(n_episodes=6, max_steps=5)"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(FENCE.sub("", page.read_text())):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        goal = (page.parent / target).resolve() if target else page
        assert goal.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(goal), (
                f"{page.name} links to {target}#{anchor}: no such heading"
            )


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub and MkDocs name them in links."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
