"""Mutations of trees of plain values, of text and of bytes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

Rng = np.random.Generator

DEEP: Any = None
for _ in range(200):
    DEEP = [DEEP]

# What stands for a value in a file that somebody damaged, or thought about.
STRANGE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e308, -1e308, 1e-320),
    *(float("nan"), float("inf"), -float("inf"), 2**31, 2**63, 2**70, -(2**63), 10**18, 10**9),
    *(
        "",
        "x",
        "0",
        "nan",
        "1e9",
        "\x1b[31mred\x1b[0m",
        "[bold]x[/bold]",
        "a/b",
        "../../x",
        "\u202e",
    ),
    *("x" * 10_000, [], {}, [0], ["x"], [[]], [2**40], {"x": 1}, {"": {}}, [1, 2, 3], [-1], [0.5]),
    DEEP,
]


def pick(rng: Rng, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def mutate_tree(rng: Rng, tree: Any, strange: list[Any] = STRANGE) -> Any:
    """A copy of nested dicts and lists with one to four changes."""
    tree = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 5))):
        places = list(_places(tree))
        if not places:
            return pick(rng, strange)
        owner, key = pick(rng, places)
        change = int(rng.integers(7))
        if change == 0:
            del owner[key]
        elif change == 1 and isinstance(owner, dict):
            owner[f"{key}_" if rng.random() < 0.5 else pick(rng, ["", "x", "a/b", "\x1b[1m"])] = (
                owner.pop(key)
            )
        elif change == 2:
            owner[key] = {"x": owner[key]} if rng.random() < 0.5 else [owner[key]]
        elif change == 3:
            other, name = pick(rng, places)
            if name in other if isinstance(other, dict) else name < len(other):
                owner[key] = copy.deepcopy(other[name])
        elif change == 4 and isinstance(owner[key], int | float):
            owner[key] = owner[key] * pick(rng, [-1, 0, 10, 10**6, 10**12, 0.3, float("nan")])
        else:
            owner[key] = copy.deepcopy(pick(rng, strange))
    return tree


def _places(tree: Any) -> Any:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield tree, key
            yield from _places(value)
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield tree, i
            yield from _places(value)


def mutate_bytes(rng: Rng, content: bytes) -> bytes:
    """A copy with bits flipped, cut short, or with numbers that cannot be."""
    data = bytearray(content)
    change = int(rng.integers(6))
    if change == 0:
        return bytes(data[: int(rng.integers(len(data) + 1))])
    if change == 1:
        start = int(rng.integers(len(data)))
        data[start : start + int(rng.integers(1, 65))] = b""
        return bytes(data)
    if change == 2:
        start, length = int(rng.integers(len(data))), int(rng.integers(1, 513))
        data[start : start + length] = bytes(len(data[start : start + length]))
        return bytes(data)
    for _ in range(int(rng.integers(1, 17))):
        at = int(rng.integers(len(data)))
        if change == 3:
            width = int(pick(rng, [1, 2, 4, 8]))
            number = pick(
                rng, [2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 2), 0, 1]
            )
            data[at : at + width] = number.to_bytes(width, "little")[: len(data) - at]
        else:
            data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)
