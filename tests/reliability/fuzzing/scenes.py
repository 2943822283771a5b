"""Mutated MJCF through the environments: python scenes.py FOLDER SEED COUNT [CASE]."""

from __future__ import annotations

import copy
import sys
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import engine
import numpy as np
from mutations import Rng, mutate_bytes, pick

from simscaleai.errors import UserError
from simscaleai.sim import make_env
from simscaleai.sim.scene import ASSETS

TASKS = ("reach", "pick_place", "reach_color")
NUMBERS = ["nan", "inf", "-inf", "-1", "0", "1e308", "1e-308", "1e9", "2147483648", "0.5", "1e20"]
WORDS = [
    "",
    "x",
    "true",
    "1 2",
    "/etc/passwd",
    "\u202e",
    "a/b",
    "x" * 5000,
    "front_cam",
    "world",
    "[b]x",
]


@cache
def originals() -> list[str]:
    whole = ["pick_place.xml", "reach.xml", "reach_color.xml"]
    return [
        p.read_text()
        for p in sorted(ASSETS.rglob("*.xml"))
        for _ in range(1 + 4 * (p.name in whole))
    ]


def make(rng: Rng, folder: Path) -> Path:
    text = pick(rng, originals())
    if rng.random() < 0.9:
        text = ET.tostring(mutate(rng, ET.fromstring(text)), encoding="unicode")
    content = text.encode()
    if rng.random() < 0.2:
        content = mutate_bytes(rng, content)
    path = folder / "evil.xml"
    path.write_bytes(content)
    return path


def mutate(rng: Rng, root: ET.Element) -> ET.Element:
    for _ in range(int(rng.integers(1, 3))):
        elements = list(root.iter())
        element, other = pick(rng, elements), pick(rng, elements)
        change = int(rng.integers(8))
        if change == 0 and len(element):
            element.remove(pick(rng, list(element)))
        elif change == 1:
            other.append(copy.deepcopy(element))
        elif change == 2:
            element.tag = other.tag
        elif change == 3 and element.attrib:
            del element.attrib[pick(rng, list(element.attrib))]
        elif change == 4 and other.attrib:
            name = pick(rng, list(other.attrib))
            element.set(name, other.attrib[name])
        elif element.attrib:
            name = pick(rng, list(element.attrib))
            parts = element.attrib[name].split()
            if parts and rng.random() < 0.8:
                parts[int(rng.integers(len(parts)))] = pick(rng, NUMBERS)
                element.set(name, " ".join(parts))
            else:
                element.set(name, pick(rng, WORDS))
    return root


def use(path: Path) -> None:
    """Step the tasks that take the scene; refused is one that none takes."""
    refused: list[UserError] = []
    for task in TASKS:
        try:
            env = make_env(task, xml_path=str(path), cameras=[])
        except UserError as error:
            refused.append(error)
            continue
        env.reset(seed=0)
        for _ in range(5):
            env.step(np.ones(env.action_space.shape, np.float32))
        env.close()
    if len(refused) == len(TASKS):
        raise refused[0]


if __name__ == "__main__":
    engine.main(make, use)
