"""Read untrusted HDF5 files: every object is checked before it is used.

An HDF5 file can refer to other files (external links, external storage, virtual datasets), load a filter
plugin, or declare terabytes in a few bytes. All of this is refused. Only hard links are followed, and a
dataset is opened only if it consists of plain numbers, is stored in the file itself, and declares a size
that the stored bytes can have. `hdf5_chunks` decompresses gzipped arrays up to the declared size. Each
refusal is a `UserError` of one sentence that names file and object.

Limits: 256 MiB for a vector dataset (time, d), 4 GiB for an image dataset, 256 MiB for a chunk, 1 GiB for one
read. All datasets together may declare 200 times the size of the file, or 256 MiB if that is more.
"""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z

from simscaleai.array_types import Array
from simscaleai.errors import MissingFileError, UserError
from simscaleai.guards import regular_file
from simscaleai.storage.bounded_errors import bounded, decoded_name
from simscaleai.storage.hdf5_chunks import (
    FILTERS,
    ChunkError,
    Chunks,
    find_chunks,
    layout_of,
    read_steps,
)
from simscaleai.storage.hdf5_library import library_problem

_MIB = 2**20
MAX_VECTOR_BYTES = 256 * _MIB
MAX_IMAGE_BYTES = 4096 * _MIB
MAX_CHUNK_BYTES = 256 * _MIB
MAX_READ_BYTES = 1024 * _MIB
MAX_TOTAL_BYTES = 256 * _MIB
MAX_FILE_RATIO = 200
MAX_DEFLATE_RATIO = 1100  # deflate reaches 1032 : 1 at best
MAX_TEXT = 16 * _MIB  # bytes of an attribute
_ATTRIBUTE_CLASSES = {h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM}
_BUILTIN_FILTERS = FILTERS | {h5z.FILTER_LZF}


class MissingEntryError(UserError):
    """A group or dataset is missing in the file."""


Scalar = str | bool | int | float


class SafeFile:
    """HDF5 file opened for reading; use it as a context manager or call `close`.

    Every method raises a UserError for refused and for damaged objects.
    """

    def __init__(self, path: str | Path) -> None:
        if problem := library_problem(h5py.version.hdf5_version_tuple):
            warnings.warn(problem, stacklevel=2)
        # a named pipe or a device would block or never end
        self.path = regular_file(path, "dataset")
        if not self.path.exists():
            raise MissingFileError(
                f"The dataset {self.path} does not exist; make one with `simscale datagen`."
            )
        try:
            self._file = h5py.File(self.path, "r")
            self.size = os.path.getsize(self.path)
        except Exception as error:  # as in `guards.guarded`
            if zipfile.is_zipfile(self.path):
                raise UserError(
                    f"{self.path} is an archive, such as a checkpoint, and no dataset; give the file or"
                    " folder that `simscale datagen` wrote."
                ) from error
            raise UserError(
                f"{self.path} cannot be read as an HDF5 file ({_first_line(error)}); it may be"
                " incomplete or of another format."
            ) from error
        # bytes that each opened dataset declares, and their sum
        self._declared: dict[str, int] = {}
        self._total = 0

    @property
    def root(self) -> h5g.GroupID:
        return h5g.open(self._file.id, b"/")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SafeFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def refuse(self, name: str, why: str) -> UserError:
        """Return the error for a refused object."""
        return UserError(f"{self.path}: {name!r} {why}; the file is refused.")

    @bounded
    def names(self, group: h5g.GroupID) -> list[str]:
        """Return the names of all members of a group."""
        return [decoded_name(name) for name in group]

    @bounded
    def has(self, group: h5g.GroupID, name: str) -> bool:
        return bool(group.links.exists(name.encode()))

    @bounded
    def group(self, parent: h5g.GroupID, name: str, label: str) -> h5g.GroupID:
        """Return the group `name` in `parent`; errors call it `label`."""
        group = self._open(parent, name, label)
        if not isinstance(group, h5g.GroupID):
            raise self.refuse(label, "is not a group")
        return group

    @bounded
    def is_group(self, parent: h5g.GroupID, name: str, label: str) -> bool:
        return isinstance(self._open(parent, name, label), h5g.GroupID)

    @bounded
    def dataset(self, parent: h5g.GroupID, name: str, label: str) -> h5d.DatasetID:
        """Return the dataset `name` in `parent` after all checks of this module."""
        dataset = self._open(parent, name, label)
        if not isinstance(dataset, h5d.DatasetID):
            raise self.refuse(label, "is not a dataset")
        self._check_dtype(dataset, label)
        self._check_storage(dataset, label)
        return dataset

    @bounded
    def chunks(self, dataset: h5d.DatasetID, label: str) -> Chunks | None:
        """Return the chunks of a checked dataset; None if only HDF5 can read them."""
        return find_chunks(dataset, self.size)

    @bounded
    def read(
        self, dataset: h5d.DatasetID, label: str, start: int = 0, stop: int | None = None
    ) -> Array:
        """Return steps start..stop of a checked dataset, as a new array in native byte order."""
        length = dataset.shape[0]
        start, stop, _ = slice(start, stop).indices(length)
        shape = (max(stop - start, 0), *dataset.shape[1:])  # (steps, ...)
        dtype = dataset.dtype.newbyteorder("=")
        if math.prod(shape) * dtype.itemsize > MAX_READ_BYTES:
            raise UserError(
                f"{self.path}: {label!r} is too long to read at once; read a range of steps."
            )
        out = np.empty(shape, dtype)
        if out.size == 0:
            return out
        layout = layout_of(dataset)
        try:
            if layout is not None and layout.gzipped:  # HDF5 would inflate without a limit
                return read_steps(dataset, layout, start, out)
            if shape[0] == length:
                dataset.read(h5s.ALL, h5s.ALL, out)
            else:
                space = dataset.get_space()
                space.select_hyperslab((start,) + (0,) * (len(shape) - 1), shape)
                dataset.read(h5s.create_simple(shape), space, out)
        except ChunkError as error:
            raise self.refuse(label, str(error)) from error
        return out

    @bounded
    def attribute(
        self, obj: h5g.GroupID, name: str, label: str, default: Scalar | None = None
    ) -> Any:
        """Return a scalar attribute as str, bool, int or float; `default` if it is missing."""
        try:
            if not h5a.exists(obj, name.encode()):  # episodes of other tools have few attributes
                return default
            number = _number(h5a.open(obj, name.encode()))
            if number is not None:
                return number
            attributes = h5py.Group(obj).attrs
            found = attributes.get_id(name)
            kind = found.get_type()  # checked before it becomes a dtype, which may be huge
            plain = kind.get_class() in _ATTRIBUTE_CLASSES and kind.get_size() <= MAX_TEXT
            value = attributes[name] if plain and found.shape in ((), (1,)) else None
        except Exception as error:  # as in `guards.guarded`
            raise self.refuse(label, f"has an unreadable attribute {name!r}") from error
        if isinstance(value, np.ndarray) and value.shape == (1,):
            value = value[0]
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, np.generic):
            value = value.item()
        if not isinstance(value, str | bool | int | float) or len(str(value)) > MAX_TEXT:
            raise self.refuse(label, f"has an attribute {name!r} that is no single text or number")
        return value

    @bounded
    def strings(self, parent: h5g.GroupID, name: str, label: str, limit: int) -> list[str]:
        """Return a dataset (k,) of strings, of fixed length (as robomimic writes them) or variable length."""
        dataset = self._open(parent, name, label)
        if not isinstance(dataset, h5d.DatasetID):
            raise self.refuse(label, "is not a dataset")
        kind = dataset.get_type()
        if not isinstance(kind, h5t.TypeStringID):
            raise self.refuse(label, "is not a list of names")
        self._check_storage(dataset, label)
        if dataset.rank != 1 or dataset.shape[0] > limit or kind.get_size() > 4096:
            raise self.refuse(label, "lists more names than there are episodes")
        layout, variable = layout_of(dataset), kind.is_variable_str()
        # `read_steps` cannot decode these, and HDF5 would inflate them without a limit
        if variable and layout is not None and layout.gzipped:
            raise self.refuse(label, "is a gzipped list of names of any length")
        values = h5py.Dataset(dataset)[()] if variable else self.read(dataset, label)
        return [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values]

    def _open(self, parent: h5g.GroupID, name: str, label: str) -> h5py.h5i.ObjectID:
        try:
            kind = parent.links.get_info(name.encode()).type
        except (KeyError, RuntimeError):
            raise MissingEntryError(
                f"{self.path}: {label!r} is missing; it is not a complete dataset."
            ) from None
        if kind == h5l.TYPE_EXTERNAL:
            raise self.refuse(label, "is a link into another file")
        if kind != h5l.TYPE_HARD:
            raise self.refuse(label, "is a soft link")
        return h5o.open(parent, name.encode())

    def _check_dtype(self, dataset: h5d.DatasetID, label: str) -> None:
        kind = dataset.get_type()
        try:
            plain = kind.dtype.kind in "biuf" and kind.dtype.itemsize <= 8
        except (TypeError, ValueError):
            plain = False
        if isinstance(kind, h5t.TypeEnumID):  # NumPy's booleans are the only enumeration allowed
            plain = plain and kind.dtype.kind == "b"
        if not plain:
            raise self.refuse(label, "does not hold plain numbers")

    def _check_storage(self, dataset: h5d.DatasetID, label: str) -> None:
        props = dataset.get_create_plist()
        layout = props.get_layout()
        if layout == h5d.VIRTUAL:
            raise self.refuse(label, "is a virtual dataset, which reads from other files")
        if props.get_external_count() > 0:
            raise self.refuse(label, "keeps its values in another file")
        filters = {props.get_filter(i)[0] for i in range(props.get_nfilters())}
        if not filters <= _BUILTIN_FILTERS:
            raise self.refuse(label, "needs a compression plugin; only gzip and lzf are read")
        if filters >= {h5z.FILTER_DEFLATE, h5z.FILTER_LZF}:
            raise self.refuse(label, "is compressed twice, by gzip and by lzf")
        shape = (
            dataset.shape
        )  # after the checks above: HDF5 opens other files for that of a virtual dataset
        if not shape:
            raise self.refuse(label, "has no axis of time")
        size = dataset.get_type().get_size()
        declared = math.prod(shape) * size
        limit = MAX_VECTOR_BYTES if len(shape) <= 2 else MAX_IMAGE_BYTES
        if declared > limit:
            raise self.refuse(label, f"declares {declared} bytes, more than {limit}")
        if layout == h5d.CHUNKED and math.prod(props.get_chunk()) * size > MAX_CHUNK_BYTES:
            raise self.refuse(label, f"has chunks of more than {MAX_CHUNK_BYTES} bytes")
        # more than deflate can achieve: the rest would be fill values, which cost nothing in the file
        stored = dataset.get_storage_size()
        ratio = MAX_DEFLATE_RATIO if filters else 1
        if declared > stored * ratio or stored > self.size:
            raise self.refuse(label, f"declares {declared} bytes but stores {stored}")
        # a dataset may be opened several times
        self._total += declared - self._declared.get(label, 0)
        self._declared[label] = declared
        if self._total > max(MAX_TOTAL_BYTES, MAX_FILE_RATIO * self.size):
            raise self.refuse(
                label,
                f"brings the decompressed size of this file of {self.size} bytes to {self._total} bytes",
            )


def _number(attribute: h5a.AttrID) -> bool | int | float | None:
    """Return a scalar attribute that is a number, as most are, without h5py's overhead; else None."""
    if attribute.shape != () or attribute.get_type().get_class() not in (h5t.INTEGER, h5t.FLOAT):
        return None
    value = np.zeros((), attribute.dtype)
    attribute.read(value)
    return value.item()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
