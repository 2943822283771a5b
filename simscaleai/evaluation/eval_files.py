"""The files of an evaluation: the newest is `eval_info.json`, and each has one of its own.

    eval_info.json                               the newest evaluation written to this folder
    eval_info_final_reach_100_seed0.json         checkpoint final.pt in reach, 100 episodes of suite 0
    eval_info_best_reach_100_seed0_heavy.json    best.pt, with heavy randomization

The same evaluation made again replaces its file. Another one never does, whatever the name would be: of
another checkpoint, one trained again under the same name included, or with other settings. While it runs, its
finished episodes are in a file that ends with `.partial.jsonl` (`episode_log`).
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

from simscaleai import __version__
from simscaleai.convert import without_nan
from simscaleai.evaluation.episode_log import SUFFIX, is_of
from simscaleai.evaluation.summary import Metrics
from simscaleai.storage.atomic import atomic_path, require_writable

NEWEST = "eval_info.json"
PATTERN = "eval_info*.json"
_IDENTITY = ("checkpoint_sha256", "env_name", "n_episodes", "seed", "randomize", "phrasings")
_OPTIONAL = (
    "every_instruction",
    "until_interval",
    "max_episodes",
    "robot",
    "env_kwargs",
    "instruction",
)  # are there if they hold


class EvalFiles:
    """Files of one evaluation.

    Args:
      folder: where they go.
      about: `_IDENTITY`, "checkpoint", and perhaps `_OPTIONAL`.

    Attributes:
      path: the evaluation's own file.

    Raises:
      UserError: nothing can be written there; raised before the first episode.
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

    @property
    def log_path(self) -> Path:
        """The file of episodes that are finished while the evaluation runs."""
        return self.path.with_suffix(SUFFIX)

    @property
    def video_dir(self) -> Path:
        """The folder of the evaluation's videos."""
        return self.path.with_name(f"{self.path.stem}_videos")

    @property
    def log_identity(self) -> Metrics:
        """What the episodes of the log depend on."""
        return {**self._identity, "version": __version__}

    def finished(self) -> Metrics | None:
        """Return the results of the same evaluation if it was made before; else None."""
        return _read(self.path) if self._is_same(self.path) else None

    def _own_file(self, about: Metrics) -> Path:
        words = [Path(about["checkpoint"]).stem, about["env_name"]]
        narrow = about.get("until_interval")
        words += [about["n_episodes"]] if narrow is None else [f"until{narrow:g}"]
        words += [f"seed{about['seed']}"]
        words += [about["robot"]] if about.get("robot") else []
        words += [about["randomize"]] if about["randomize"] else []
        words += [about["phrasings"]] if about["phrasings"] != "train" else []
        words += ["every-instruction"] if about.get("every_instruction") else []
        words += [str(about["instruction"])[:40]] if about.get("instruction") else []
        # short: a value may be a path or a pose, and names of files have a limit
        words += [f"{key}-{value}"[:30] for key, value in (about.get("env_kwargs") or {}).items()]
        name = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", str(word)) for word in words)
        # a name that is taken by another evaluation gets a number
        for k in itertools.count(1):
            path = self.folder / f"eval_info_{name}{'' if k == 1 else f'_{k}'}.json"
            # one that another evaluation has begun to write is taken, too
            log = path.with_suffix(SUFFIX)
            free = not log.exists() or is_of(log, self.log_identity)
            if free and (not path.exists() or self._is_same(path)):
                return path
        raise AssertionError

    def _is_same(self, path: Path) -> bool:
        found = _read(path)
        return found is not None and _identity(found) == self._identity


def _read(path: Path) -> Metrics | None:
    """Return the results in a file; None if there are none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _identity(about: Metrics) -> Metrics:
    identity = {key: about.get(key) for key in (*_IDENTITY, *_OPTIONAL)}
    # how many episodes it took is a result then
    return identity if about.get("until_interval") is None else {**identity, "n_episodes": None}
