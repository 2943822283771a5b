"""Mutated YAML through every command's settings: python settings.py FOLDER SEED COUNT [CASE]."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import engine
import yaml
from mutations import STRANGE, Rng, mutate_bytes, mutate_tree, pick

from simscaleai.config import load_config
from simscaleai.errors import UserError
from simscaleai.rl.settings import RLConfig
from simscaleai.sim.base_env import SimConfig
from simscaleai.training.run_config import load_run

CONFIGS = Path(__file__).parents[3] / "configs"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS = [
    BOMB,
    BOMB + "<<: *i\n",
    "a: &a {b: *a}\n",
    "a: &a\n  <<: *a\n",
    "seed: " + "[" * 5000,
    "seed: " + "{a: " * 3000,
    "seed: " + "9" * 5000,
    "seed: 0x" + "f" * 100_000,
    "seed: !!python/object/apply:os.system ['true']",
    "seed: !!binary aGVsbG8=\n",
    "seed: !!set {a, b}\n",
    "seed: 2026-01-01T00:00:00Z\n",
    "seed: 1:2:3:4:5\n",
    "? [a, b]\n: c\n",
    "seed: ${oc.env:HOME}\n",
    "seed: ${seed}\n",
    "seed: ???\n",
    "--- a\n--- b\n",
    "%YAML 9.9\n---\nseed: 1\n",
    "seed: \x00\n",
    "\tseed: 1\n",
    "seed: 1\nseed: 2\n",
    "1: 2\ntrue: 3\nnull: 4\n1.5: 5\n",
    "name: ../../x\n",
    "- 1\n",
    "",
    "x" * 100_000,
    "&a " * 2000,
    "a: " + "- " * 5000,
    "key: >\n" + " " * 100_000,
]


@cache
def originals() -> list[str]:
    return [p.read_text() for p in sorted(CONFIGS.rglob("*.yaml"))]


def make(rng: Rng, folder: Path) -> Path:
    text = pick(rng, originals())
    kind = rng.random()
    if kind < 0.6:
        tree: Any = mutate_tree(rng, yaml.safe_load(text), STRANGE[:-1])
        text = yaml.safe_dump(tree, allow_unicode=bool(rng.random() < 0.5))
    elif kind < 0.8:
        extra = pick(rng, TEXTS)
        text = extra if rng.random() < 0.5 else text + extra
    content = text.encode()
    if kind > 0.7 and content:
        content = mutate_bytes(rng, content)
    path = folder / "evil.yaml"
    path.write_bytes(content)
    return path


def use(path: Path) -> None:
    refused: UserError | None = None
    for way in (_train, _rl, _env):
        try:
            way(path)
        except UserError as error:
            refused = error
    if refused is not None:
        raise refused


def _train(path: Path) -> None:
    load_run(path, [], {}).train_config().check()


def _rl(path: Path) -> None:
    load_config(RLConfig, path)


def _env(path: Path) -> None:
    load_config(SimConfig, path)


if __name__ == "__main__":
    engine.main(make, use)
