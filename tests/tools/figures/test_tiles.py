"""Episodes side by side: where each tile is, and what its border says."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from simscaleai.tools.figures.rollout import RolloutFrame
from simscaleai.tools.figures.style import GREEN, GREY, RED
from simscaleai.tools.figures.tiles import BORDER, compose, verdict


def snapshot(n: int, side: int = 40) -> RolloutFrame:
    """Tile i is of the brightness 10 i; even ones are over, and every fourth succeeded."""
    images = (
        np.ones((n, side, side + 1, 3), np.uint8)
        * (10 * np.arange(n, dtype=np.uint8))[:, None, None, None]
    )
    over = np.arange(n) % 2 == 0
    return RolloutFrame(images, np.arange(n), over, np.arange(n) % 4 == 0)


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (9, 3, 3)])
def test_tiles(n: int, rows: int, columns: int) -> None:
    sheet = compose(snapshot(n), 0.05)
    tall, wide = 40 + 2 * BORDER, 41 + 2 * BORDER
    assert sheet.shape == (rows * tall, columns * wide + columns * wide % 2, 3)
    for i in range(n):
        y, x = i // columns * tall, i % columns * wide
        tile = sheet[y : y + tall, x : x + wide]
        color = (GREEN if i % 4 == 0 else RED) if i % 2 == 0 else GREY
        border = np.round(255 * np.array(to_rgb(color)))
        for edge in (tile[:BORDER], tile[-BORDER:], tile[:, :BORDER], tile[:, -BORDER:]):
            assert (edge == border).all()
        inside = tile[BORDER:-BORDER, BORDER:-BORDER]
        assert (inside[20:] == 10 * i).all()  # below the words
        assert inside[:20].max() > 200  # the words, white


def test_words() -> None:
    assert verdict(False, False) == (GREY, "")
    assert verdict(True, True) == (GREEN, "success")
    assert verdict(True, False) == (RED, "failed")


def test_an_instruction_stands_at_the_bottom_of_its_own_tile() -> None:
    plain = snapshot(2, side=64)
    told = compose(plain._replace(instructions=("go left", "")), 0.05)
    changed = (told != compose(plain, 0.05)).any(-1)
    rows, columns = np.nonzero(changed)
    assert changed.any() and rows.min() > 36 and columns.max() < 36 + 64
    assert plain._replace(instructions=("a", "b")).first(1).instructions == ("a",)
