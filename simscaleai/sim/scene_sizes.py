"""Estimate the memory that a scene asks for, from its text alone, before MuJoCo allocates any of it.

A few bytes of MJCF can ask for terabytes (`<texture width="100000" .../>`) or hours (nested `<replicate>`,
whose time grows with the square of the count). Rough estimates are enough: a robot in a room takes about
20 MiB.
"""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import mujoco

from simscaleai.errors import UserError

LIMIT = 2**30  # bytes
MOST_COPIES = 10_000  # elements made by <replicate>, and coordinates of the points of a <flexcomp>
_ELEMENT = 4096  # bytes that MuJoCo spends on a body with a geom, all arrays together
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50, "E": 2**60}
_SIZES = {  # attributes of <size>: bytes for each
    "nconmax": 10_000,
    "njmax": 10_000,
    "nkey": 10_000,
    "nstack": 8,
    "nuserdata": 8,
    **{f"nuser_{kind}": _ELEMENT for kind in ("body", "jnt", "geom", "site", "cam")},
    **{f"nuser_{kind}": _ELEMENT for kind in ("tendon", "actuator", "sensor")},
}


def check_sizes(path: Path, bundled: Mapping[str, bytes]) -> None:
    """Refuse a scene that asks for more than `LIMIT` or `MOST_COPIES`.

    Args:
      bundled: files that it may include, by name.

    Raises:
      UserError: it does, or is no XML.
    """
    elements = list(_declared(path, bundled))
    made = sum(copies for _, copies, _ in elements)
    if made > MOST_COPIES:
        name = max(elements, key=lambda element: element[1])[2]
        raise UserError(
            f"The scene {str(path)!r} makes about {made:.3g} copies, most of them by {name}; at most"
            f" {MOST_COPIES} are allowed."
        )
    _refuse_large(path, ((size, name) for size, _, name in elements))


def check_pictures(path: Path, spec: mujoco.MjSpec) -> None:
    """Refuse a parsed scene whose PNG files would take more than `LIMIT` when decoded.

    Raises:
      UserError: they would, or the scene names something that is not a file, such as a pipe.
    """
    folders = (path.parent, path.parent / spec.texturedir, path.parent / spec.meshdir)
    files = [file for texture in spec.textures for file in (texture.file, *texture.cubefiles)]
    files += [part.file for parts in (spec.hfields, spec.meshes, spec.skins) for part in parts]
    sizes = [(max(_png_bytes(folder / file) for folder in folders), file) for file in files if file]
    _refuse_large(path, ((size, f"the image {file!r}") for size, file in sizes))


def _refuse_large(path: Path, sizes: Iterable[tuple[float, str]]) -> None:
    """Raise UserError, which names the largest part, if (bytes, name) pairs exceed `LIMIT` in total."""
    total, largest, what = 0.0, 0.0, ""
    for size, name in sizes:
        total += size
        if size > largest:
            largest, what = size, name
    if total > LIMIT:
        raise UserError(
            f"The scene {str(path)!r} would take about {total / 2**30:.3g} GiB, most of it for {what};"
            f" at most {LIMIT / 2**30:g} GiB is allowed."
        )


def _declared(path: Path, bundled: Mapping[str, bytes]) -> Iterator[tuple[float, float, str]]:
    """Yield (bytes, copies made, name) of every element of the scene and of the files that it includes."""
    # a stack instead of recursion: nesting may be deeper than Python's limit
    included: set[str] = set()
    waiting = [(_root(path.read_bytes(), path), 1.0)]
    while waiting:
        element, copies = waiting.pop()
        if element.tag == "include":
            name = element.get("file", "")
            data = None if name in included else _included(path, name, bundled)
            included.add(name)  # MuJoCo includes each file once
            waiting += [] if data is None else [(_root(data, path), copies)]
            continue
        if element.tag == "flexcomp" and element.get("file"):  # read while parsing
            _refuse_pipe(path.parent / element.get("file", ""))
        if element.tag == "replicate":
            copies *= max(_numbers(element, "count"), default=1.0)
        name = f" {element.get('name')!r}" if element.get("name") else ""
        size = _SIZE_OF.get(element.tag, lambda _: _ELEMENT)(element)
        made = float(copies > 1 and element.tag != "replicate")
        if element.tag == "flexcomp":
            made = 3 * math.prod(_numbers(element, "count"))
        yield copies * size, copies * made, f"<{element.tag}>{name}"
        waiting += [(child, copies) for child in element]


def _root(data: bytes, path: Path) -> ElementTree.Element:
    # MuJoCo's reader takes comments with "--" in them, and declarations anywhere
    text = re.sub(
        r"<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^>\[]*(\[.*?\])?\s*>", "", _text(data), flags=re.S
    )
    try:
        return ElementTree.fromstring(text.strip())
    except ElementTree.ParseError as error:
        raise UserError(f"MuJoCo cannot read the scene {str(path)!r}: {error}.") from None


def _text(data: bytes) -> str:
    return data.decode("utf-8-sig", errors="replace").replace("\0", "")


def _included(path: Path, name: str, bundled: Mapping[str, bytes]) -> bytes | None:
    """Return the bytes of an included file; None if there is none, which MuJoCo will report."""
    if name in bundled:
        return bundled[name]
    file = path.parent / name
    _refuse_pipe(file)
    return file.read_bytes() if file.is_file() else None


def _numbers(element: ElementTree.Element, attribute: str) -> list[float]:
    """Return the finite numbers of an attribute, negative ones as 0; other words are left out."""
    numbers = []
    for word in element.get(attribute, "").split():
        try:
            numbers.append(float(word))
        except ValueError:
            continue
    return [max(number, 0.0) for number in numbers if math.isfinite(number)]


def _one(element: ElementTree.Element, attribute: str) -> float:
    return max(_numbers(element, attribute), default=0.0)


def _texture(element: ElementTree.Element) -> float:
    width, height = _one(element, "width"), _one(element, "height")
    six_sides = element.get("type") != "2d"  # a cube or a sky: six squares
    return 4 * width * max(height, 6 * width if six_sides else 0)


def _hfield(element: ElementTree.Element) -> float:
    return 8 * _one(element, "nrow") * _one(element, "ncol")


def _mesh(element: ElementTree.Element) -> float:
    """Return the bytes of a mesh; the vertices of built-in shapes grow with the square of a parameter."""
    return 200 * _one(element, "params") ** 2 if element.get("builtin") else _ELEMENT


def _memory(element: ElementTree.Element) -> float:
    """Return the bytes of <size>; half of its `memory`, since a scene seldom uses all of it."""
    known = re.fullmatch(r"\s*(\d+)\s*([KMGTPE]?)\s*", element.get("memory", ""))
    memory = float(known[1]) * _UNITS[known[2]] if known else 0.0
    return memory / 2 + sum(each * _one(element, name) for name, each in _SIZES.items())


_SIZE_OF: Mapping[str, Callable[[ElementTree.Element], float]] = {
    "texture": _texture,
    "hfield": _hfield,
    "mesh": _mesh,
    "size": _memory,
    "numeric": lambda element: 8 * _one(element, "size"),
    "user": lambda element: 8 * _one(element, "dim"),
    "key": lambda element: 0.0,
}


def _png_bytes(file: Path) -> float:
    """Return the bytes of a decoded PNG file, from its header; 0 if it is none."""
    _refuse_pipe(file)
    try:
        with file.open("rb") as opened:
            head = opened.read(24)
    except OSError:
        return 0.0
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        return 0.0
    width, height = struct.unpack(">II", head[16:24])
    return 4.0 * width * height


def _refuse_pipe(file: Path) -> None:
    """Raise UserError for pipes, sockets and devices, which would block a reader for ever."""
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise UserError(f"The scene names {str(file)!r}, which is no regular file; give a file.")
