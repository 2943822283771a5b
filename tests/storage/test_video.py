"""Frames become a video of as many frames."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.storage.video import write_video


def frames(n: int, height: int, width: int) -> Iterator[np.ndarray]:
    """From dark to bright."""
    for i in range(n):
        yield np.full((height, width, 3), 200 * i // (n - 1), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (33, 51)])
def test_frames_come_back(height: int, width: int, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.mp4"
    assert write_video(path, frames(11, height, width), 20) == 11
    seen = iio.imread(path, plugin="FFMPEG")
    assert seen.shape == (11, height + height % 2, width + width % 2, 3)
    expected = [200 * i // 10 for i in range(11)]
    np.testing.assert_allclose(seen.mean((1, 2, 3)), expected, atol=6)
    assert iio.immeta(path, plugin="FFMPEG")["fps"] == 20


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from frames(2, 16, 16)
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        write_video(tmp_path / "a.mp4", broken(), 20)
    assert list(tmp_path.iterdir()) == []


def test_without_ffmpeg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"simscaleai\[viz\]"):
        write_video(tmp_path / "a.mp4", frames(2, 16, 16), 20)
