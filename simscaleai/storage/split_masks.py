"""Read the training and validation splits of a file.

A file may list their episodes in /mask/train and /mask/valid. If one list is missing, it is all episodes
that are not in the other. If both are missing, every tenth episode is for validation.
"""

from __future__ import annotations

from collections.abc import Sequence

from simscaleai.errors import UserError, unknown_name
from simscaleai.storage.episode import EpisodeMeta
from simscaleai.storage.hdf5 import SafeFile

SPLITS = ("train", "valid")
_FALLBACK_VALID = 10  # without masks, every tenth episode is for validation
_SHOWN = 3  # episodes named in an error


class Masks:
    """The masks of an open file.

    Args:
      file: the file.
      episodes: its episodes, in order.
      robomimic: whether it has the robomimic layout; only this layout has masks.

    Attributes:
      names: names of the masks, sorted.
    """

    def __init__(self, file: SafeFile, episodes: Sequence[EpisodeMeta], robomimic: bool) -> None:
        self._file, self._episodes = file, episodes
        there = robomimic and file.has(file.root, "mask")
        self._group = file.group(file.root, "mask", "mask") if there else None
        self.names = sorted(file.names(self._group)) if self._group is not None else []
        self._position = {e.name: i for i, e in enumerate(episodes)}

    def read(self, name: str) -> tuple[list[int], list[str]]:
        """Return the sorted positions of the episodes in a mask, and the names in it that no episode has."""
        assert self._group is not None
        most = 2 * len(self._episodes) + 1000  # names; a hostile file may list millions
        members = set(self._file.strings(self._group, name, f"mask/{name}", most))
        known = sorted(self._position[m] for m in members if m in self._position)
        return known, sorted(m for m in members if m not in self._position)

    def split(self, name: str) -> list[int]:
        """Return the sorted positions of the episodes of a split.

        Args:
          name: "all", "train", "valid" or the name of another mask.

        Raises:
          UserError: the split does not exist, or a mask of `SPLITS` is invalid.
        """
        everything = list(range(len(self._episodes)))
        if name == "all":
            return everything
        if name not in (*SPLITS, *self.names):
            raise unknown_name(f"split of {self._file.path}:", name, {*SPLITS, *self.names, "all"})
        # before either mask is used: an episode in both would be trained on and then validated on
        if problems := self.problems():
            raise UserError(f"{self._file.path}: {problems[0]}.")
        if name in self.names:
            return self.read(name)[0]
        other = SPLITS[1 - SPLITS.index(name)]
        if other in self.names:
            rest = set(self.read(other)[0])
            return [i for i in everything if i not in rest]
        # the last of each ten, so that a file of up to nine episodes has all of them for training
        validated = everything[_FALLBACK_VALID - 1 :: _FALLBACK_VALID]
        return validated if name == "valid" else sorted({*everything} - {*validated})

    def problems(self) -> list[str]:
        """Return the problems of the masks of `SPLITS`, one clause each."""
        masks = {name: self.read(name) for name in SPLITS if name in self.names}
        problems = [
            f"mask/{name} names {missing[0]!r}, which is not there; write the mask again"
            for name, (_, missing) in masks.items()
            if missing
        ]
        train, valid = (set(masks.get(name, ([], []))[0]) for name in SPLITS)
        if both := sorted(train & valid):
            shown = ", ".join(self._episodes[i].name for i in both[:_SHOWN])
            more = ", ..." if len(both) > _SHOWN else ""
            problems.append(
                f"mask/train and mask/valid have {len(both)} episodes in common ({shown}{more}); write masks"
                " that have none"
            )
        return problems
