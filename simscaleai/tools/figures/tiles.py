"""Several episodes in one image: a tile each, with its number, its time, how it ended and its instruction.

How an episode ended is written, and shown by the colour of the tile's border: grey while it runs, green for
a success, vermilion for a failure.
"""

from __future__ import annotations

import math
from functools import cache
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai.tools.figures.rollout import RolloutFrame
from simscaleai.tools.figures.style import GREEN, GREY, RED

BORDER = 4  # pixels
LABEL = 0.065  # height of the words, as a share of the tile
LETTER = 0.54  # width of a letter, as a share of that


def compose(moment: RolloutFrame, seconds: float) -> NDArray[np.uint8]:
    """All tiles side by side.

    Args:
      moment: of n episodes.
      seconds: of one step.

    Returns:
      (H, W, 3), both even; the tiles in reading order, in rows of equal length.
    """
    from PIL import Image, ImageDraw

    n, height, width, _ = moment.images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    tall, wide = height + 2 * BORDER, width + 2 * BORDER
    size = (2 * math.ceil(columns * wide / 2), 2 * math.ceil(rows * tall / 2))
    sheet = Image.new("RGB", size, "white")
    border = ImageDraw.Draw(sheet)
    font = _font(max(10, round(LABEL * height)))
    for i in range(n):
        x, y = i % columns * wide, i // columns * tall
        color, word = verdict(bool(moment.over[i]), bool(moment.success[i]))
        border.rectangle((x, y, x + wide - 1, y + tall - 1), fill=color)
        tile = Image.fromarray(moment.images[i])
        draw = ImageDraw.Draw(tile)
        text = f"{i}  {moment.steps[i] * seconds:.2f} s  {word}".rstrip()
        _write(draw, (6, 4), text, font, color)
        if moment.instructions:
            lines = fill(moment.instructions[i], max(1, int(width / (LETTER * font.size))))
            bottom = draw.textbbox((0, 0), lines, font=font)[3]
            _write(draw, (6, height - bottom - 5), lines, font, "black")
        sheet.paste(tile, (x + BORDER, y + BORDER))
    return np.asarray(sheet)


def verdict(over: bool, success: bool) -> tuple[str, str]:
    """(colour, word) for an episode as it stands."""
    if not over:
        return GREY, ""
    return (GREEN, "success") if success else (RED, "failed")


def _write(draw: Any, place: tuple[float, float], text: str, font: Any, color: str) -> None:
    """White letters on a colour."""
    left, top, right, bottom = draw.textbbox(place, text, font=font)
    draw.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill=color)
    draw.text(place, text, fill="white", font=font)


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
