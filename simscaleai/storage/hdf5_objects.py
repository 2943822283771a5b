"""Make datasets and attributes by HDF5's low-level interface, with its types and property lists reused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5p, h5s, h5t

from simscaleai.array_types import Array
from simscaleai.storage.packed_episode import GZIP_LEVEL, chunk_shape
from simscaleai.storage.stored_array import StoredArray


class Hdf5Objects:
    """Creates the objects of one file.

    Episodes have the same arrays, so a type or a property list that was made once serves all of them.
    """

    def __init__(self) -> None:
        self._scalar = h5s.create(h5s.SCALAR)
        self._types: dict[np.dtype[Any], h5t.TypeID] = {}
        self._layouts: dict[tuple[tuple[int, ...], int], h5p.PropDCID] = {}

    def write_attributes(self, group: h5g.GroupID, attributes: Mapping[str, Any]) -> None:
        """Write scalar attributes of a group, text or numbers."""
        for name, value in attributes.items():
            # NumPy's own type of text, four bytes a letter, is none that HDF5 can store
            dtype = h5py.string_dtype() if isinstance(value, str) else None
            scalar = np.array(value, dtype)
            h5a.create(group, name.encode(), self.type_of(scalar.dtype), self._scalar).write(scalar)

    def write_array(
        self, group: h5g.GroupID, name: bytes, value: Array, chunks: list[bytes]
    ) -> StoredArray:
        """Write an array (T, ...) by its filtered chunks; return where they are."""
        kind = self.type_of(value.dtype)
        space = h5s.create_simple(value.shape)
        shape = chunk_shape(value)
        step = shape[0]
        props = self._layout(shape, value.itemsize)
        dataset = h5d.create(group, name, kind, space, props)
        # chunks divide the axis of time alone
        tail = (0,) * (value.ndim - 1)
        for i, chunk in enumerate(chunks):
            dataset.write_direct_chunk((i * step, *tail), chunk)
        if len(chunks) == 1:  # asking for one is several times faster than iterating
            offsets = [dataset.get_chunk_info_by_coord((0, *tail)).byte_offset]
        else:
            infos: list[h5d.StoreInfo] = []
            dataset.chunk_iter(infos.append)
            infos.sort(key=lambda info: info.chunk_offset[0])
            offsets = [info.byte_offset for info in infos]
        return StoredArray(
            value.shape[1:], value.dtype, step, offsets, [len(chunk) for chunk in chunks]
        )

    def type_of(self, dtype: np.dtype[Any]) -> h5t.TypeID:
        """Return HDF5's type of a dtype, made once."""
        if dtype not in self._types:
            self._types[dtype] = h5t.py_create(dtype, logical=True)
        return self._types[dtype]

    def _layout(self, chunk: tuple[int, ...], itemsize: int) -> h5p.PropDCID:
        key = (chunk, itemsize)
        if key not in self._layouts:
            props = h5p.create(h5p.DATASET_CREATE)
            props.set_chunk(chunk)
            props.set_shuffle()
            props.set_deflate(GZIP_LEVEL)
            props.set_fill_time(h5d.FILL_TIME_NEVER)  # every chunk is written
            props.set_obj_track_times(False)
            self._layouts[key] = props
        return self._layouts[key]


def group_below(groups: dict[str, h5g.GroupID], folder: str) -> h5g.GroupID:
    """Return the group `folder` ("obs", "obs/images") below groups[""], made on first use."""
    if folder not in groups:
        parent, _, leaf = folder.rpartition("/")
        groups[folder] = h5g.create(group_below(groups, parent), leaf.encode())
    return groups[folder]
