"""The files of an evaluation: the newest is `eval_info.json`, and each has one of its own.

    eval_info.json                               the newest evaluation written to this folder
    eval_info_final_reach_100_seed0.json         checkpoint final.pt in reach, 100 episodes of suite 0
    eval_info_best_reach_100_seed0_heavy.json    best.pt, with heavy randomization

The same evaluation made again replaces its file. Another one never does, whatever the name would be: of
another checkpoint, one trained again under the same name included, or with other settings.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

from simscaleai.convert import without_nan
from simscaleai.evaluation.summary import Metrics
from simscaleai.storage.atomic import atomic_path, require_writable

NEWEST = "eval_info.json"
PATTERN = "eval_info*.json"
_IDENTITY = ("checkpoint_sha256", "env_name", "n_episodes", "seed", "randomize", "phrasings")
_OPTIONAL = ("every_instruction",)  # is there if it holds


class EvalFiles:
    """Those of one evaluation.

    Args:
      folder: where they go.
      about: `_IDENTITY`, "checkpoint", and perhaps `_OPTIONAL`.

    Raises:
      UserError: nothing can be written there; said before the first episode.
    """

    def __init__(self, folder: Path, about: Metrics) -> None:
        self.folder = folder
        self._identity = _identity(about)
        require_writable(
            folder / NEWEST, "choose a folder for the results with output_dir (--output)"
        )
        self.path = self._own_file(about)

    def write(self, results: Metrics) -> None:
        """Write both files."""
        text = json.dumps(without_nan(results), indent=2, allow_nan=False) + "\n"
        for path in (self.path, self.folder / NEWEST):
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def _own_file(self, about: Metrics) -> Path:
        words = [Path(about["checkpoint"]).stem, about["env_name"], about["n_episodes"]]
        words += [f"seed{about['seed']}"]
        words += [about["randomize"]] if about["randomize"] else []
        words += [about["phrasings"]] if about["phrasings"] != "train" else []
        words += ["every-instruction"] if about.get("every_instruction") else []
        name = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", str(word)) for word in words)
        # a name that is taken by another evaluation gets a number
        for k in itertools.count(1):
            path = self.folder / f"eval_info_{name}{'' if k == 1 else f'_{k}'}.json"
            if not path.exists() or self._is_same(path):
                return path
        raise AssertionError

    def _is_same(self, path: Path) -> bool:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(found, dict) and _identity(found) == self._identity


def _identity(about: Metrics) -> Metrics:
    return {key: about.get(key) for key in (*_IDENTITY, *_OPTIONAL)}
