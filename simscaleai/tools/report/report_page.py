"""Write a report: one HTML file that opens without a network.

    write_report(Path("report.html"), Report("pick_place", "...", verdicts, sections))

A report is a list of sections, each of which is data; `report.html.jinja` decides how they look. Figures and
videos are data URIs. The page has no script, and its content security policy forbids scripts and every
request, whatever the names of policies, instructions and files contain.

Promise: a file that is not a report of this module is never replaced.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from simscaleai import __version__
from simscaleai.errors import ExistingFileError
from simscaleai.evaluation.comparison import SuccessRate
from simscaleai.storage.atomic import atomic_path, require_writable

REPORT = "report.html"
# Stands in a meta element of the page, and is what tells a report from other files.
GENERATOR = "SimScaleAI report"
_HEAD_BYTES = 2000  # the generator is named before that


@dataclass(frozen=True)
class VerdictBox:
    """What was found, in one line and one paragraph; `tone` is "good", "bad" or "neutral"."""

    tone: str
    headline: str
    detail: str


@dataclass(frozen=True)
class Rates:
    """Success rates with their 95 % intervals, by label."""

    kind: ClassVar[str] = "rates"
    title: str
    rows: tuple[tuple[str, SuccessRate], ...]
    note: str = ""


@dataclass(frozen=True)
class FunnelStep:
    """Failure stage: episodes that ended there, and episodes that got beyond it."""

    label: str
    lost: int
    left: int


@dataclass(frozen=True)
class Funnel:
    """Failure stages of `n` episodes, in their order; what is left after the last one succeeded."""

    kind: ClassVar[str] = "funnel"
    title: str
    n: int
    steps: tuple[FunnelStep, ...]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Table of texts; `folded` hides it behind its title."""

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Medium:
    """Figure or video: `source` is a data URI."""

    source: str
    caption: str


@dataclass(frozen=True)
class Figures:
    """Figures side by side, one below the other on a phone."""

    kind: ClassVar[str] = "figures"
    title: str
    media: tuple[Medium, ...]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Videos that play in the page."""

    kind: ClassVar[str] = "gallery"
    title: str
    media: tuple[Medium, ...]
    note: str = ""


@dataclass(frozen=True)
class Card:
    """One thing among many to look at.

    Attributes:
      source: data URI of a video; "" for none.
      poster: data URI of an image that stands for it; "" for none.
      caption: text below.
      tags: {title of a filter: one of its choices}.
    """

    source: str
    poster: str
    caption: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Browser:
    """Cards with filters, of which the reader takes one choice each; CSS does it, without a script.

    Attributes:
      title: heading.
      cards: what is shown.
      note: text above.
    """

    kind: ClassVar[str] = "browser"
    title: str
    cards: tuple[Card, ...]
    note: str = ""

    @property
    def filters(self) -> list[tuple[str, list[str]]]:
        """(title, choices) of the filters that tell cards apart, the most frequent choice first."""
        titles = dict.fromkeys(title for card in self.cards for title in card.tags)
        counted = {
            title: Counter(card.tags.get(title, "") for card in self.cards) for title in titles
        }
        return [
            (title, [choice for choice, _ in counts.most_common() if choice])
            for title, counts in counted.items()
            if len(counts) > 1
        ]

    def count(self, title: str, choice: str) -> int:
        """Return how many cards have a choice."""
        return sum(card.tags.get(title) == choice for card in self.cards)


@dataclass(frozen=True)
class Preformatted:
    """Text as it is: a command, or a file of settings."""

    kind: ClassVar[str] = "preformatted"
    title: str
    text: str
    folded: bool = False


# A closed union: the template has a branch for each, by `kind`.
Section = Rates | Funnel | Table | Figures | Gallery | Browser | Preformatted


@dataclass(frozen=True)
class Report:
    """One page.

    Attributes:
      title, subtitle: heading.
      verdicts: on top.
      sections: below, in this order; those without content are left out.
    """

    title: str
    subtitle: str
    verdicts: tuple[VerdictBox, ...]
    sections: Sequence[Section]


def write_report(
    path: Path, report: Report, remedy: str = "choose another folder with --output"
) -> None:
    """Write a report, in place of an earlier report at the same path.

    Args:
      path: the file.
      report: what it says.
      remedy: what to do if the file cannot be written, for the error.

    Raises:
      ExistingFileError: another file is there.
      CannotWriteError: nothing can be written there.
    """
    check_report_path(path, remedy)
    environment = Environment(
        loader=PackageLoader("simscaleai.tools.report", "."),
        autoescape=True,  # names come from untrusted files
        undefined=StrictUndefined,  # a misspelled name is an error and no empty cell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    # CSS wants no space before the sign, and bars that are exact to a pixel
    environment.filters["css"] = lambda share: f"{100 * share:.2f}%"
    page = environment.get_template("report.html.jinja").render(
        report=report,
        # here and not in the template, which would draw a heading first
        sections=[section for section in report.sections if _has_content(section)],
        generator=GENERATOR,
        version=__version__,
    )
    with atomic_path(path) as temporary:
        # a name may hold half of a surrogate pair, which UTF-8 has no bytes for
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def check_report_path(path: Path, remedy: str = "choose another folder with --output") -> None:
    """Raise the errors of `write_report`; for before a long computation."""
    # first: a folder that cannot be written is named whether or not a file is there
    require_writable(path, remedy)
    if path.exists():
        with path.open("rb") as file:
            if GENERATOR.encode() not in file.read(_HEAD_BYTES):
                raise ExistingFileError(
                    f"{path} is not a report of simscale; move it, or {remedy}."
                )


def data_uri(content: bytes, kind: str) -> str:
    """Return content of a media type, such as "video/mp4", as a URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _has_content(section: Section) -> bool:
    match section:
        case Preformatted():
            return bool(section.text)
        case Funnel():
            return bool(section.steps)
        case Browser():
            return bool(section.cards)
        case Figures() | Gallery():
            return bool(section.media or section.note)
        case _:
            return bool(section.rows)
