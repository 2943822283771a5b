"""What is wrong with a dataset: each problem once, with the episodes that have it."""

from __future__ import annotations

_SHOWN = 5  # episodes that a sentence names; a defect of the recorder is in all of them


class Problems:
    """Collects problems, in the order in which each was first found.

    Attributes:
      errors, warnings: {problem: names of the episodes that have it}; "" stands for the whole dataset.
    """

    def __init__(self) -> None:
        self.errors: dict[str, list[str]] = {}
        self.warnings: dict[str, list[str]] = {}

    def error(self, what: str, name: str = "") -> None:
        """Add what breaks training or cannot be right."""
        self.errors.setdefault(what, []).append(name)

    def warning(self, what: str, name: str = "") -> None:
        """Add what deserves a look."""
        self.warnings.setdefault(what, []).append(name)


def sentences(found: dict[str, list[str]]) -> list[str]:
    """Return one sentence per problem, naming a few of the episodes that have it."""
    written = []
    for what, names in found.items():
        named = [n for n in names if n]
        shown = ", ".join(named[:_SHOWN]) + (", ..." if len(named) > _SHOWN else "")
        count = f" ({len(named)} episodes: {shown})" if len(named) > 1 else f" ({shown})"
        written.append(what + (count if named else ""))
    return written
