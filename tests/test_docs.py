"""The pages are true: their Python blocks and `simscale` commands run, and their links lead somewhere.

The blocks of a page run in order in one folder that holds nothing but `configs`, as a reader would run
them, except that episode and step counts are cut down. A YAML block that starts with `# name.yaml` is that
file; in a `console` block, what follows a command is what it prints. A block marked `no-run` is left out: it
installs something, or needs what a test machine may not have.

Of the pages, `README.md` and those of `QUICK` run in every test session; the others are slow.
The tutorials build on each other and therefore run one after the other in one empty folder; so does the whole
site in the order of its menu, which shows that no page needs a file to be absent that an earlier one writes.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from simscaleai.datagen import content_hash
from simscaleai.tools.cli import app, main

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAV = [
    ROOT / "docs" / path
    for path in re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    if (ROOT / "docs" / path).exists()
]
TUTORIALS = [page for page in NAV if page.parent.name == "tutorials"]

COMMAND: Any = typer.main.get_command(app)
NOTEBOOK = ROOT / "notebooks" / "first_policy.ipynb"
WIDTH = 88  # characters of a line of code on the site at 1280 pixels

FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
COUNT = re.compile(
    r"(?P<name>(?:n|env|eval|max)[-_]episodes|n-steps|max[-_]steps|total[-_](?:time)?steps)"
    r"(?P<gap>[ =:]+)(?P<number>[\d_]+)"
)
LIMITS = {
    "n_episodes": 6,
    "max_episodes": 6,
    "env_episodes": 2,
    "eval_episodes": 2,
    "n_steps": 4,
    "max_steps": 20,
    "total_steps": 64,
    "total_timesteps": 64,
}
FILE = re.compile(r"# (?P<name>[\w/]+\.yaml)\n")


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
        if language in ("python", "bash", "console", "yaml") and "no-run" not in marks:
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


def run_command(block: Block, words: list[str], may_fail: bool = False) -> None:
    """Run `simscale` in this process, `cd`, and other programs beside it."""
    if words[0] == "cd":
        os.chdir(words[1])
    elif words[0] in ("python", "torchrun"):
        done = subprocess.run(program(words), env=surroundings(), capture_output=True, text=True)
        assert done.returncode == 0, f"{block}: {shlex.join(words)}: {done.stdout}{done.stderr}"
    else:
        assert words[0] == "simscale", (
            f"{block}: {words[0]!r} is not run here; mark the block no-run"
        )
        # the imitation that a warm start begins with has steps in proportion to its environments
        fewer = ["num_envs=8"] if "--init-from" in words else []
        try:
            main([*words[1:], *fewer])
        except SystemExit as end:
            assert may_fail or not end.code, f"{block}: {shlex.join(words)} ended with {end.code}"
        finally:
            os.environ.pop("SIMSCALE_IMPORT", None)  # of this command alone


def program(words: list[str]) -> list[str]:
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def surroundings() -> dict[str, str]:
    """The environment of another process: this package and its commands can be found."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def server(words: list[str]) -> Iterator[None]:
    """A `simscale serve ... --port N &` of a page, until the session ends."""
    port = int(words[words.index("--port") + 1])
    process = subprocess.Popen(
        [sys.executable, "-m", "simscaleai.tools.cli", *words[1:]], env=surroundings()
    )
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None and time.monotonic() < deadline, "no server"
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def run_session(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines `$ command`, each followed by what it prints; line breaks do not count."""
    for turn in block.code.removeprefix("$ ").split("\n$ "):
        command, _, expected = turn.partition("\n")
        capsys.readouterr()
        run_command(block, shlex.split(command), may_fail=True)
        printed = " ".join("".join(capsys.readouterr()).split())
        assert " ".join(expected.split()) in printed, f"{block}: {command} prints {printed}"


def run_page(
    page: Path, folder: Path, capsys: pytest.CaptureFixture[str], stack: contextlib.ExitStack
) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)
        elif block.language == "bash":
            for words in commands(block.code):
                if words[-1] == "&":
                    stack.enter_context(server(words[:-1]))
                else:
                    run_command(block, words)
        elif block.language == "console":
            run_session(block, capsys)
        else:
            file = FILE.match(block.code)
            assert file, f"{block}: a YAML block starts with `# name.yaml`, or is marked no-run"
            (folder / file["name"]).write_text(block.code)


ALONE = [page for page in PAGES if blocks(page) and page not in TUTORIALS]
# README has the whole loop; a guide takes up to half a minute
QUICK = ("README.md", "architecture.md", "models.md", "simulation.md")


@pytest.mark.parametrize(
    "page",
    [p if p.name in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in ALONE],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_blocks_run(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    with contextlib.ExitStack() as stack:
        run_page(page, tmp_path, capsys, stack)
    if page.name == "README.md":  # its loop in Python is its loop in the shell
        assert content_hash("data/reach-py.h5") == content_hash("data/reach.h5")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_have_only_options_that_there_are(page: Path) -> None:
    """Also in blocks that are not run; what the tutorials do is tested by running them, which is slow."""
    for match in FENCE.finditer(page.read_text()):
        for words in commands(match["code"]) if match["info"].startswith("bash") else ():
            if words[0] != "simscale" or "..." in words or words[1].startswith("-"):
                continue
            group, depth = COMMAND, 1
            while hasattr(group := group.commands[words[depth]], "commands"):
                depth += 1
            arguments = [word for word in words[depth + 1 :] if word != "&"]
            try:
                group.make_context(shlex.join(words[: depth + 1]), arguments)
            finally:
                os.environ.pop("SIMSCALE_IMPORT", None)


@pytest.mark.slow
def test_the_tutorials_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an empty folder, as someone would who has installed the package."""
    assert len(TUTORIALS) == 9
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as stack:
        for page in TUTORIALS:
            run_page(page, tmp_path, capsys, stack)
            assert Path.cwd() == tmp_path, f"{page.name} ends in another folder"


@pytest.mark.slow
def test_the_other_pages_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one folder and in the order of the menu: no file of an earlier page is in the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    with contextlib.ExitStack() as stack:
        for page in [ROOT / "README.md", *NAV]:
            if page not in TUTORIALS and page.name not in ("index.md", "cli-reference.md"):
                run_page(page, tmp_path, capsys, stack)


def test_shortened_counts() -> None:
    code = (
        "simscale train --max-steps 20_000  # long\nf(n_episodes=100, max_steps=5)\nmax_steps: 900"
    )
    short = "simscale train --max-steps 20  # long\nf(n_episodes=6, max_steps=5)\nmax_steps: 20"
    assert COUNT.sub(shorten, code) == short


@pytest.fixture(scope="module")
def added() -> dict[Path, str]:
    """The pages that are added when the site is built."""
    generator = runpy.run_path(str(ROOT / "scripts" / "generate_reference.py"))
    return {ROOT / "docs" / path: text for path, text in generator["api_pages"]().items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path, added: dict[Path, str]) -> None:
    for match in LINK.finditer(FENCE.sub("", page.read_text())):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        goal = (page.parent / target).resolve() if target else page
        assert goal in added or goal.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(added.get(goal) or goal.read_text()), (
                f"{page.name} links to {target}#{anchor}: no such heading"
            )


def anchors(text: str) -> set[str]:
    """The headings of a page as GitHub and MkDocs name them in links."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_llms_txt_names_every_page_and_no_other() -> None:
    text = (ROOT / "docs" / "llms.txt").read_text()
    base = "https://raw.githubusercontent.com/rk-edge/SimScaleAI/main/"
    links = [link.removeprefix(base) for link in re.findall(r"\]\((\S+)\)", text)]
    assert sorted(links) == sorted(str(page.relative_to(ROOT)) for page in NAV[1:])
    assert text.startswith("# ") and "\n> " in text


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Dead links, pages that no menu leads to and unknown anchors are warnings."""
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stderr
    checks = runpy.run_path(str(ROOT / "scripts" / "check_site.py"))
    assert list(checks["dead_links"](tmp_path)) == []
    assert (tmp_path / "llms.txt").exists()
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert "```" not in text, f"{page.name} shows a code block as text"
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="?((?:https?:)?//[^" >]+)', text
        )
        assert not loaded, f"{page.name} loads {loaded} from elsewhere"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_no_wider_than_the_page(page: Path) -> None:
    """A reader at 1280 pixels sees whole lines, without scrolling in a block."""
    lines = [
        line for match in FENCE.finditer(page.read_text()) for line in match["code"].split("\n")
    ]
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    packages = re.findall(r"simscale new \w+ (\w+)", text)
    named = [
        name
        for name in re.findall(r"`(?:python )?([\w/]+\.(?:py|xml))`", FENCE.sub("", text))
        if not any(package in name for package in packages)  # `simscale new` has written it
    ]
    folders = ("simscaleai", "tests", "benchmarks", "scripts")
    files = [path.as_posix() for folder in folders for path in (ROOT / folder).rglob("*.*")]
    assert [name for name in named if not any(file.endswith(f"/{name}") for file in files)] == []


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With shortened counts, as the pages."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import nbformat

    book = nbformat.read(NOTEBOOK, as_version=4)
    for cell in book.cells:
        cell.source = COUNT.sub(shorten, cell.source)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    resources = {"metadata": {"path": str(tmp_path)}}
    done = nbclient.NotebookClient(book, timeout=300, resources=resources).execute()
    shown = [
        kind for cell in done.cells for o in cell.get("outputs", []) for kind in o.get("data", {})
    ]
    assert shown.count("image/png") == 2 and shown.count("image/gif") == 1


def test_the_notebook_is_kept_without_outputs_and_opens_in_colab() -> None:
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") for cell in book.cells)
    where = (
        f"colab.research.google.com/github/rk-edge/SimScaleAI/blob/main/notebooks/{NOTEBOOK.name}"
    )
    assert where in book.cells[0].source
