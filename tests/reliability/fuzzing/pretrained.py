"""Mutated folders of `save_pretrained`, loaded and run: python pretrained.py FOLDER SEED COUNT [CASE]."""

from __future__ import annotations

import json
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import engine
from checkpoints import act as use
from checkpoints import policy
from mutations import Rng, mutate_bytes, mutate_tree

from simscaleai.storage.pretrained import CONFIG, WEIGHTS


@cache
def original(folder: Path) -> tuple[dict[str, Any], bytes]:
    place = policy().save_pretrained(folder / "original")
    return json.loads((place / CONFIG).read_text()), (place / WEIGHTS).read_bytes()


def make(rng: Rng, folder: Path) -> Path:
    about, weights = original(folder.parent)
    path = folder / "evil"
    path.mkdir()
    kind = rng.random()
    text = json.dumps(mutate_tree(rng, about) if kind < 0.6 else about).encode()
    if kind > 0.9:
        text = mutate_bytes(rng, text)
    if kind > 0.5:
        weights = mutate_bytes(rng, weights) if rng.random() < 0.3 else with_header(rng, weights)
    (path / CONFIG).write_bytes(text)
    (path / WEIGHTS).write_bytes(weights)
    return path


def with_header(rng: Rng, weights: bytes) -> bytes:
    """Other names, types, shapes and places of the tensors; its length right, most of the time."""
    (length,) = struct.unpack("<Q", weights[:8])
    header = json.dumps(mutate_tree(rng, json.loads(weights[8 : 8 + length]))).encode()
    header += b" " * (-len(header) % 8)
    stated = len(header) if rng.random() < 0.9 else int(rng.integers(2**62))
    return struct.pack("<Q", stated) + header + weights[8 + length :]


if __name__ == "__main__":
    engine.main(make, use)
