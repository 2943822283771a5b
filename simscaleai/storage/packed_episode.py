"""An episode as it is stored: chunks, byte-shuffled and gzipped, of each of its arrays."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from simscaleai.array_types import Array, ArrayDict
from simscaleai.errors import UserError
from simscaleai.storage.episode import (
    NEXT_OBS,
    OBS,
    Episode,
    array_checksum,
)
from simscaleai.storage.obs_names import has_channel

GZIP_LEVEL = 1  # higher levels save 1 % of a file of floats
_VECTOR_CHUNK_BYTES = 64 * 1024
# Of so few, gzip saves less than an array's header takes, and most of its time is the start.
_SMALL_BYTES = 2048
Packed = tuple[Episode, str, dict[str, tuple[Array, list[bytes]]]]
"""An episode, its checksum and {path in the file: (values, filtered chunks)}."""


def chunk_shape(value: Array, whole: bool = False) -> tuple[int, ...]:
    """Return the chunk shape: steps per chunk (all with `whole`), then the other axes whole."""
    if whole:
        return value.shape
    step_nbytes = max(value.nbytes // len(value), 1)
    # images have channels, or are integers; other matrices of a step, such as labels, are as small as vectors
    is_image = value.ndim > 3 or (value.ndim == 3 and value.dtype.kind != "f")
    steps = 1 if is_image else max(1, min(len(value), _VECTOR_CHUNK_BYTES // step_nbytes))
    return (steps, *value.shape[1:])


def pack_episode(episode: Episode, names: Mapping[str, str], whole: bool = False) -> Packed:
    """Return an episode as it is stored; `whole` makes each array one chunk."""
    arrays = episode.arrays()
    packed: dict[str, tuple[Array, list[bytes]]] = {}
    originals: ArrayDict = {}
    for name, value in arrays.items():
        assert len(value) == len(episode) > 0, (name, value.shape, len(episode))
        assert not name.endswith("/") and name != OBS
        prefix = next((p for p in (NEXT_OBS, OBS) if name.startswith(p)), "")
        key = name.removeprefix(prefix)
        path = prefix + names.get(key, key) if prefix else name
        # (T, H, W) -> (T, H, W, 1), as tools expect of images
        stored = value[..., None] if prefix and value.ndim == 3 and has_channel(key) else value
        if path not in packed:
            originals[path], packed[path] = value, (stored, _filter(stored, whole))
        elif originals[path] is not value and not np.array_equal(packed[path][0], stored):
            # `image` has to be that of the first camera
            raise UserError(
                f"The observation {key!r} is not what its camera sees; give it another name."
            )
    return episode, array_checksum(arrays), packed


def _filter(value: Array, whole: bool = False) -> list[bytes]:
    """Return the chunks of an array, or one, as HDF5's shuffle and gzip filters would store them."""
    step = chunk_shape(value, whole)[0]
    chunks = []
    for start in range(0, len(value), step):
        block = np.ascontiguousarray(value[start : start + step])
        if len(block) < step:  # HDF5 stores whole chunks: pad the last one
            block = np.concatenate(
                [
                    block,
                    np.zeros(
                        (step - len(block), *block.shape[1:]),
                        block.dtype,
                    ),
                ]
            )
        raw = block.reshape(-1).view(np.uint8)
        if block.itemsize > 1:
            # byte shuffle: first bytes of all values, then all second bytes, ...
            raw = np.ascontiguousarray(raw.reshape(-1, block.itemsize).T)
        # stored in gzip's format all the same: the header of the array names its filters once for all chunks
        chunks.append(zlib.compress(raw.data, GZIP_LEVEL if raw.nbytes > _SMALL_BYTES else 0))
    return chunks
