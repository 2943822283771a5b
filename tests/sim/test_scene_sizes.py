"""Scenes that ask for absurd amounts of memory or time are refused before anything is allocated."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from simscaleai.sim.scene import load_model

BOX = '<geom size="0.1" pos="0 0 9"/>'
TOO_LARGE = {
    "<texture> 't'": '<asset><texture name="t" type="2d" builtin="flat" width="99999" height="99999"/>'
    "</asset>",
    "<texture> 's'": '<asset><texture name="s" type="cube" builtin="flat" width="30000"/></asset>',
    "<hfield> 'h'": '<asset><hfield name="h" nrow="50000" ncol="50000" size="1 1 1 1"/></asset>',
    "<mesh> 'm'": '<asset><mesh name="m" builtin="supersphere" params="30000 1 1"/></asset>',
    "100 GiB": '<size memory="200G"/>',
    "<size>": '<size nconmax="2000000000"/>',
    "GiB, most of it for <size>": '<size nkey="10000000"/>',
    "about 381 GiB": '<size nuser_geom="100000000"/>',
    "<numeric> 'n'": '<custom><numeric name="n" size="1000000000"/></custom>',
    "<user>": '<sensor><user dim="1000000000"/></sensor>',
    "1e+07 copies": f'<worldbody><replicate count="10000000">{BOX}</replicate></worldbody>',
    "9e+06 copies": '<worldbody><replicate count="3000"><replicate count="3000"><geom size="0.1"/>'
    "</replicate></replicate></worldbody>",
    "<flexcomp> 'f'": '<worldbody><flexcomp name="f" type="grid" count="999 999 999" radius=".01" dim="3"/>'
    "</worldbody>",
    "included": '<include file="large.xml"/>',
    "'bomb.png'": '<asset><texture name="p" type="2d" file="bomb.png"/></asset>',
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_sizes_are_refused_before_they_are_allocated(
    what: str, scene: Callable[..., str], own: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    scene(
        '<mujoco><asset><hfield name="included" nrow="50000" ncol="50000"/></asset></mujoco>',
        "large.xml",
    )
    head = struct.pack(">I4sIIBBBBB", 13, b"IHDR", 40_000, 40_000, 1, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + bytes(64))
    path = scene(own.replace("</mujoco>", TOO_LARGE[what] + "</mujoco>"))
    refused(lambda: load_model(path, 0.002), path, what, "at most")


def test_what_only_mujocos_reader_takes_is_read(scene: Callable[..., str], own: str) -> None:
    text = own.replace("<worldbody>", "<!-- -- a -- comment -- --><worldbody>")
    text = f'<?xml version="1.0"?>\n{text}'
    assert load_model(scene(text), 0.002).nmocap == 1
    few = f'<worldbody><replicate count="50">{BOX}</replicate></worldbody></mujoco>'
    assert load_model(scene(own.replace("</mujoco>", few)), 0.002).ngeom > 50


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize(
    "element",
    [
        '<include file="pipe"/>',
        '<asset><texture name="t" type="2d" file="pipe"/></asset>',
        '<asset><mesh name="m" file="pipe" content_type="model/obj"/></asset>',
        '<asset><hfield name="h" file="pipe" size="1 1 1 1"/></asset>',
        '<worldbody><flexcomp name="f" type="mesh" file="pipe" radius="1"/></worldbody>',
    ],
)
def test_pipes_are_not_waited_for(
    element: str, scene: Callable[..., str], own: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = scene(own.replace("</mujoco>", element + "</mujoco>"))
    refused(lambda: load_model(path, 0.002), "pipe", "no regular file")
