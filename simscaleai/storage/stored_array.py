"""Make the index of a file from what was written of each array."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simscaleai.storage.hdf5_chunks import Layout
from simscaleai.storage.index import Column, Index


class StoredArray(NamedTuple):
    """One array of one episode, as it was written."""

    step_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_steps: int
    offsets: list[int]  # of its chunks in the file, bytes
    sizes: list[int]  # bytes


def index_of(
    about: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Sequence[StoredArray]],
    filters: tuple[int, ...],
) -> Index | None:
    """Return the index of some episodes; None if their arrays are not chunked alike.

    Args:
      about: the attributes "num_samples", "seed", "success" and "language" of each episode.
      columns: {path: the array of each episode}.
      filters: that all chunks passed, HDF5's codes.
    """
    lengths = np.array([a["num_samples"] for a in about], np.int64)
    found: dict[str, Column] = {}
    for path, arrays in columns.items():
        if len({(array.step_shape, array.dtype) for array in arrays}) > 1:
            return None
        # an episode shorter than a chunk is one chunk of its own length, which `chunk_steps` below allows for
        most = max(array.chunk_steps for array in arrays)
        layout = Layout((most, *arrays[0].step_shape), arrays[0].dtype, filters)
        offsets, sizes = (
            np.fromiter(itertools.chain.from_iterable(lists), np.int64)
            for lists in ([a.offsets for a in arrays], [a.sizes for a in arrays])
        )
        column = found[path] = Column(layout, offsets, sizes)
        if not np.array_equal(column.chunk_steps(lengths), [a.chunk_steps for a in arrays]):
            return None
    # each sentence once: thousands of episodes have a handful of them
    texts = sorted({str(a["language"]) for a in about})
    number = {text: i for i, text in enumerate(texts)}
    return Index(
        lengths,
        np.array([a["seed"] for a in about], np.uint64),
        np.array([a["success"] for a in about], bool),
        np.array([number[str(a["language"])] for a in about], np.int64),
        texts,
        found,
    )
