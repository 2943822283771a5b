"""Some mutated files of every kind: python everything.py FOLDER SEED COUNT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import checkpoints
import datasets
import engine
import lerobot_folders
import pretrained
import scenes
import settings

if __name__ == "__main__":
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    found = {}
    for kind in (datasets, checkpoints, pretrained, settings, scenes, lerobot_folders):
        place = folder / kind.__name__
        place.mkdir()
        some = count // 2 if kind is lerobot_folders else count  # a folder takes ten times as long
        found[kind.__name__] = engine.run(kind.make, kind.use, seed, some, place)
    print(json.dumps(found))
