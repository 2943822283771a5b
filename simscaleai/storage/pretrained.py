"""A policy as a folder for other programs: `config.json` and the weights, `model.safetensors`.

Neither file can contain code. `config.json` is written last, so that a folder with this file is complete.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from simscaleai.errors import MissingFileError, UserError
from simscaleai.guards import guarded, regular_file
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import atomic_path
from simscaleai.tensor_types import Tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = "simscaleai-policy-1"
_MAX_CONFIG_BYTES = 64 * 2**20  # it includes a tokenizer's vocabulary


def is_pretrained(path: str | Path) -> bool:
    """Return whether `path` is a folder of `save_pretrained`."""
    return (Path(path) / CONFIG).is_file()


def save_pretrained(folder: str | Path, about: JsonDict, weights: Tensors) -> Path:
    """Write both files, replacing those of an earlier policy; return the folder."""
    folder = Path(folder)
    # first: without it, old weights cannot be combined with a new description
    (folder / CONFIG).unlink(missing_ok=True)
    # safetensors refuses tensors that share memory or are views of larger ones.
    own = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(own, temporary)
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **about}, indent=2) + "\n")
    return folder


def load_pretrained(folder: str | Path) -> tuple[JsonDict, Tensors]:
    """Return the description and the weights that were passed to `save_pretrained`.

    Raises:
      UserError: a file is missing, damaged or of another format.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not regular_file(folder / name, "policy").is_file():
            raise MissingFileError(f"There is no {name} in {str(folder)!r}; check the path.")
    with guarded(f"The policy in {str(folder)!r}", "save it again"):
        if (folder / CONFIG).stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError(f"its {CONFIG} is longer than {_MAX_CONFIG_BYTES} bytes")
        about = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
        raise UserError(
            f"{str(folder / CONFIG)!r} does not say that it is of format {FORMAT!r}; only folders of"
            " save_pretrained can be read."
        )
    return about, weights
