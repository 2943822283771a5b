"""A question about a dataset that is sound."""

from __future__ import annotations

from dataclasses import dataclass

_SHOWN = 5  # episodes that the sentence names


@dataclass(frozen=True)
class Finding:
    """Something that deserves a look.

    Attributes:
      problem: in a clause.
      episodes: names of the episodes that have it; empty if it is about the whole dataset.
      remedy: in a clause.
    """

    problem: str
    episodes: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        shown = ", ".join(self.episodes[:_SHOWN])
        count = len(self.episodes)
        if count > 1:
            shown = f"{count} episodes: {shown}" + (", ..." if count > _SHOWN else "")
        return f"{self.problem}{f' ({shown})' if shown else ''}; {self.remedy}"
