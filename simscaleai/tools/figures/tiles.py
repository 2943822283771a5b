"""Compose several episodes into one image: a tile each, with number, time, outcome and instruction.

The outcome is written, and shown by the color of the tile's border: gray while the episode runs, green for a
success, vermilion for a failure.
"""

from __future__ import annotations

import math
from functools import cache
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simscaleai.tools.figures.rollout import RolloutFrame
from simscaleai.tools.figures.style import GREEN, GREY, RED

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

BORDER = 4  # pixels
LABEL = 0.065  # height of the text, relative to the tile
LETTER = 0.54  # width of a letter, relative to its height


def compose(snapshot: RolloutFrame, seconds: float) -> NDArray[np.uint8]:
    """Return an image of all episodes of a snapshot, one tile each.

    Args:
      snapshot: n episodes.
      seconds: duration of one step.

    Returns:
      (H, W, 3), with even H and W; the tiles are in reading order, in rows of equal length.
    """
    from PIL import Image, ImageDraw

    n, height, width, _ = snapshot.images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    tall, wide = height + 2 * BORDER, width + 2 * BORDER
    # H.264 needs even sides
    size = (2 * math.ceil(columns * wide / 2), 2 * math.ceil(rows * tall / 2))
    sheet = Image.new("RGB", size, "white")
    border = ImageDraw.Draw(sheet)
    letter = max(10, round(LABEL * height))  # pixels; smaller ones cannot be read
    font = _font(letter)
    for i in range(n):
        x, y = i % columns * wide, i // columns * tall
        color, word = verdict(bool(snapshot.over[i]), bool(snapshot.success[i]))
        border.rectangle((x, y, x + wide - 1, y + tall - 1), fill=color)
        tile = Image.fromarray(snapshot.images[i])
        draw = ImageDraw.Draw(tile)
        text = f"{snapshot.number(i)}  {snapshot.steps[i] * seconds:.2f} s  {word}".rstrip()
        _write(draw, (6, 4), text, font, color)
        if snapshot.instructions:
            lines = fill(snapshot.instructions[i], max(1, int(width / (LETTER * letter))))
            bottom = draw.textbbox((0, 0), lines, font=font)[3]
            _write(draw, (6, height - bottom - 5), lines, font, "black")
        sheet.paste(tile, (x + BORDER, y + BORDER))
    return np.asarray(sheet)


def verdict(over: bool, success: bool) -> tuple[str, str]:
    """Return (color, word) for the outcome of an episode."""
    if not over:
        return GREY, ""
    return (GREEN, "success") if success else (RED, "failed")


def _write(
    draw: ImageDraw,
    place: tuple[float, float],
    text: str,
    font: FreeTypeFont | ImageFont,
    color: str,
) -> None:
    """Write white text on a colored rectangle."""
    left, top, right, bottom = draw.textbbox(place, text, font=font)
    draw.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill=color)
    draw.text(place, text, fill="white", font=font)


@cache
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
