"""Recipes: settings files that come with the package, found by name.

`--config bc_200` finds a recipe wherever the package is installed; a file of that path comes first. In a
checkout the recipes lie in `configs/`, and the wheel carries a copy of them inside the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from simscaleai.errors import MissingFileError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent
# The first folder is the wheel's copy, the second one a checkout's; only one of them exists.
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")

KINDS = {"train": "simscale train", "rl": "simscale rl"}


class Recipe(NamedTuple):
    """A settings file that comes with the package."""

    name: str
    kind: str  # a key of KINDS
    path: Path

    @property
    def description(self) -> str:
        """First sentence of the comment at the file's start."""
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("# "):
                break
            lines.append(line[2:].strip())
        # Commands are indented below the sentences; the first sentence ends before them.
        return " ".join(lines).partition(". ")[0].partition(" simscale ")[0].rstrip(".;: ")


def recipes(kind: str | None = None) -> list[Recipe]:
    """Return the recipes of a kind, "train" or "rl", or of both."""
    folder = next((f for f in _FOLDERS if f.is_dir()), None)
    if folder is None:
        return []
    kinds = KINDS if kind is None else (kind,)
    return [
        Recipe(path.stem, each, path)
        for each in kinds
        for path in sorted((folder / each).glob("*.yaml"))
    ]


def find_config(config: str | Path, kind: str) -> Path:
    """Return the settings file that a path or the name of a recipe stands for.

    Args:
      config: a path; or the name of a recipe, where no file has that path. `configs/train/bc_200.yaml`, the
        path of a recipe in a checkout, finds it outside of one, too.
      kind: "train" or "rl".

    Raises:
      MissingFileError: neither exists.
    """
    path = Path(config)
    if path.exists():
        return path
    known = {recipe.name: recipe.path for recipe in recipes(kind)}
    name = str(config)
    if path.parent == Path("configs", kind) and path.suffix == ".yaml":
        name = path.stem
    if name in known:
        return known[name]
    raise MissingFileError(
        f"{config} is neither a settings file nor a recipe; see `simscale recipes`."
        f"{did_you_mean(name, list(known))}"
    )
