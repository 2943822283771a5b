"""Checkpoints: plain values and tensors in one file, written whole and read as untrusted input.

A payload is made of dicts, lists, tuples, strings, numbers, None and tensors; nothing else goes in, and
so nothing that could run code comes out. This is the only place that calls `torch.load`.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.atomic import atomic_path

FORMAT_VERSION = 1


def save_checkpoint(path: str | Path, payload: dict[str, Any]) -> Path:
    """Write `payload` with the current format version, atomically; return the path.

    Raises:
      TypeError: the payload holds something that is neither a plain value nor a tensor.
    """
    stray = _stray(payload)
    if stray:
        raise TypeError(f"a checkpoint holds plain values and tensors only, not {stray}")
    with atomic_path(path) as temporary:
        torch.save({"format_version": FORMAT_VERSION, **payload}, temporary)
    return Path(path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a payload written by `save_checkpoint`, tensors on the CPU and mapped from the file.

    Raises:
      UserError: the file is missing, damaged, of another format, or holds more than plain values.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"There is no checkpoint {str(path)!r}; check the path.")
    _check_archive(path)
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises a dozen types for a file that is not what it seems
        raise UserError(
            f"The file {str(path)!r} is not a checkpoint of plain values and tensors"
            f" ({type(error).__name__}); only files saved by this package can be loaded."
        ) from error
    version = payload.get("format_version") if isinstance(payload, dict) else None
    if version != FORMAT_VERSION:
        found = "none" if version is None else repr(version)
        raise UserError(
            f"The file {str(path)!r} has checkpoint format version {found}, and this release reads"
            f" {FORMAT_VERSION}; train again or use the release that wrote it."
        )
    stray = _stray(payload)
    if stray:
        raise UserError(f"The checkpoint {str(path)!r} holds {stray}, which is not allowed in one.")
    return payload


def _check_archive(path: Path) -> None:
    """Refuse anything but an undamaged, uncompressed zip archive, reading it in small pieces.

    Torch stores its records uncompressed. With compression refused, what is unpacked is never larger
    than the file itself.
    """
    problem: str | None = None
    try:
        with zipfile.ZipFile(path) as archive:
            size = path.stat().st_size
            entries = archive.infolist()
            if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
                problem = "its records are compressed"
            elif sum(e.file_size for e in entries) > size:
                problem = "its records claim to be larger than the file"
            elif (damaged := archive.testzip()) is not None:
                problem = f"its record {damaged!r} is damaged"
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError):
        problem = "it is cut short, damaged or of another kind"
    if problem:
        raise UserError(
            f"The file {str(path)!r} is not a readable checkpoint: {problem};"
            " use another checkpoint of the run."
        )


def _stray(payload: Any) -> str | None:
    """Describe something in `payload` that a checkpoint must not hold, or return None."""
    seen: set[int] = set()  # containers may be shared or hold themselves
    todo: list[tuple[str, Any]] = [("payload", payload)]
    while todo:
        where, value = todo.pop()
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized or value.is_meta:
                return f"an unusual tensor at {where}"
            backed = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > backed:
                return f"a tensor at {where} that claims more than its {backed} bytes"
        elif type(value) in (dict, list, tuple):
            if id(value) in seen:
                continue
            seen.add(id(value))
            keyed = value.items() if isinstance(value, dict) else enumerate(value)
            for key, entry in keyed:
                if type(key) not in (str, int):
                    return f"the key {key!r} at {where}"
                todo.append((f"{where}.{key}", entry))
        elif value is not None and type(value) not in (str, int, float, bool):
            return f"a {type(value).__name__} at {where}"
    return None
