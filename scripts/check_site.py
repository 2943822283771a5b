"""Check the links of the built site: `make docs && python scripts/check_site.py site`.

Every link, image and script of a page leads to a file of the site, and to an anchor that is there. Links to
other hosts are not followed. Exit code 1 and a list if one is dead.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def dead_links(site: Path) -> Iterator[str]:
    """Yield a sentence for each dead link below `site`."""
    pages = {path.resolve(): Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links begin at the root of the host
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            goal = goal / "index.html" if goal.is_dir() else goal
            if not goal.exists():
                yield f"{path.name}: {link} is not there"
            elif goal in pages and parts.fragment:
                known = pages[goal].anchors
                if unquote(parts.fragment) not in known:
                    yield f"{path.name}: {link} has no such anchor"


if __name__ == "__main__":
    found = list(dead_links(Path(sys.argv[1])))
    print("\n".join(found) or "No dead link.")
    sys.exit(bool(found))
