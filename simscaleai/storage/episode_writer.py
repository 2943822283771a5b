"""Writing a dataset: one HDF5 file in the robomimic layout.

    with atomic_path("data/reach.h5") as temporary:
        with EpisodeWriter(temporary, contract, seed=42) as writer:
            writer.add_all(enumerate(episodes))

Episodes of a state-only task hold a few kB in a dozen datasets, so that HDF5's own bookkeeping is
most of the cost of a file. Hence: the low-level interface, prepared properties, structures of HDF5
1.10 (a chunk index without a B-tree: half the size), and chunks that are filtered on a thread pool
and handed over ready-made.

Chunks: a vector dataset is one chunk per episode (up to 64 KiB, then a few), an image dataset one
chunk per frame, so that reading one training sample touches few bytes. All are byte-shuffled and
gzipped, which any HDF5 library undoes. Pictures that an episode has under two names are stored once.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5p, h5s, h5t
from numpy.typing import NDArray

from simscaleai.contract import EnvContract
from simscaleai.storage.episode import (
    OBS,
    SCHEMA_VERSION,
    Episode,
    array_checksum,
    combine_digests,
    episode_digest,
    split_episodes,
)

_GZIP_LEVEL = 1  # higher levels save 1 % of a file of floats
_VECTOR_CHUNK_BYTES = 64 * 1024
_BLOCK = 32  # episodes compressed at a time
_ROBOMIMIC_GYM = 2  # robomimic's EnvType for Gymnasium environments

Packed = tuple[Episode, str, dict[str, list[bytes]]]
"""An episode, its checksum and {array name: filtered chunks}."""


class EpisodeWriter:
    """Writes episodes to a new file; masks and totals follow when the `with` block ends well.

    Args:
      path: file to write; one that is there is replaced (give a temporary path, and rename).
      contract: the environment that made the episodes.
      seed, valid_fraction: what decides which episodes are in /mask/train and /mask/valid.
      splits: {mask: positions} instead, where that is decided already.
      attributes: further attributes of /data: text, numbers.
    """

    def __init__(
        self,
        path: str | Path,
        contract: EnvContract,
        *,
        seed: int = 0,
        valid_fraction: float = 0.1,
        splits: Mapping[str, Iterable[int]] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
        access.set_fclose_degree(h5f.CLOSE_STRONG)  # groups held open here must not keep it open
        creation = h5p.create(h5p.FILE_CREATE)
        self._file = h5f.create(os.fsencode(path), h5f.ACC_TRUNC, creation, access)
        self._data = h5g.create(self._file, b"data")
        self._seed, self._valid_fraction, self._splits = seed, valid_fraction, splits
        self._env_args = json.dumps(
            {
                "env_name": contract.env_name,
                "type": _ROBOMIMIC_GYM,
                "env_kwargs": contract.env_config,
                "contract": contract.to_dict(),
            },
            sort_keys=True,
        )
        self._attributes = dict(attributes or {})
        self._written: dict[int, tuple[str, dict[str, Any]]] = {}
        self._total = 0
        self._scalar = h5s.create(h5s.SCALAR)
        self._group = h5p.create(h5p.GROUP_CREATE)
        self._group.set_attr_phase_change(16, 8)  # keeps attributes in the object's header
        self._types: dict[np.dtype[Any], h5t.TypeID] = {}
        self._layouts: dict[tuple[tuple[int, ...], int], h5p.PropDCID] = {}

    def add(self, position: int, episode: Episode) -> None:
        """Write /data/demo_<position>; in any order, each position once, none left out."""
        self._write(position, _pack(episode))

    def add_all(self, episodes: Iterable[tuple[int, Episode]]) -> None:
        """`add` many (position, episode), compressing on all cores.

        In turns of a block: threads that compress would starve beside one that drives HDF5, which
        holds Python's lock.
        """
        remaining = iter(episodes)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while block := list(itertools.islice(remaining, _BLOCK)):
                packed = pool.map(_pack, [episode for _, episode in block])
                for (position, _), result in zip(block, list(packed), strict=True):
                    self._write(position, result)

    @property
    def content_hash(self) -> str:
        """What `datagen.content_hash` finds in the finished file."""
        masks = self._masks()
        digests = (
            episode_digest(checksum, attributes, (m for m in masks if i in masks[m]))
            for i, (checksum, attributes) in self._written.items()
        )
        return combine_digests(digests, self._env_args)

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, failed: type[BaseException] | None, *exc: object) -> None:
        if failed is None:
            self._finish()
        self._file.close()

    def _finish(self) -> None:
        count = len(self._written)
        assert sorted(self._written) == list(range(count)), "positions must be 0..count-1"
        masks = h5g.create(self._file, b"mask")
        for name, positions in self._masks().items():
            values = np.array([f"demo_{i}" for i in sorted(positions)], dtype="S")
            h5py.Group(masks).create_dataset(name, data=values if positions else np.empty(0, "S6"))
        head = {
            "total": self._total,
            "env_args": self._env_args,
            "schema_version": SCHEMA_VERSION,
            "content_hash": self.content_hash,
            **self._attributes,
        }
        self._write_attributes(self._data, head)

    def _masks(self) -> dict[str, set[int]]:
        if self._splits is not None:
            return {name: set(positions) for name, positions in self._splits.items()}
        split = split_episodes(len(self._written), self._seed, self._valid_fraction)
        return {name: set(positions) for name, positions in split.items()}

    def _write(self, position: int, packed: Packed) -> None:
        episode, checksum, chunks = packed
        assert position not in self._written, position
        attributes = episode.attributes()
        demo = h5g.create(self._data, f"demo_{position}".encode(), None, self._group)
        self._write_attributes(demo, {**attributes, "checksum": checksum})
        groups = {"": demo}
        stored: dict[int, bytes] = {}
        for name, value in episode.arrays().items():
            folder, _, leaf = name.rpartition("/")
            group = _group(groups, folder)
            same = stored.setdefault(id(chunks[name]), name.encode())
            if same == name.encode():
                self._write_array(group, leaf.encode(), value, chunks[name])
            else:  # a second name for what is in the file
                group.links.create_hard(leaf.encode(), demo, same)
        self._written[position] = checksum, attributes
        self._total += len(episode)

    def _write_attributes(self, group: h5g.GroupID, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            dtype = h5py.string_dtype() if isinstance(value, str) else None
            scalar = np.array(value, dtype)
            h5a.create(group, name.encode(), self._type(scalar.dtype), self._scalar).write(scalar)

    def _write_array(
        self, group: h5g.GroupID, name: bytes, value: NDArray[Any], chunks: list[bytes]
    ) -> None:
        kind = self._type(value.dtype)
        space = h5s.create_simple(value.shape)
        dataset = h5d.create(group, name, kind, space, self._layout(value))
        step = _chunk_shape(value)[0]
        tail = (0,) * (value.ndim - 1)
        for i, chunk in enumerate(chunks):
            dataset.write_direct_chunk((i * step, *tail), chunk)

    def _type(self, dtype: np.dtype[Any]) -> h5t.TypeID:
        if dtype not in self._types:
            self._types[dtype] = h5t.py_create(dtype, logical=True)
        return self._types[dtype]

    def _layout(self, value: NDArray[Any]) -> h5p.PropDCID:
        chunk = _chunk_shape(value)
        key = (chunk, value.itemsize)
        if key not in self._layouts:
            props = h5p.create(h5p.DATASET_CREATE)
            props.set_chunk(chunk)
            props.set_shuffle()
            props.set_deflate(_GZIP_LEVEL)
            props.set_fill_time(h5d.FILL_TIME_NEVER)  # every chunk is written
            props.set_obj_track_times(False)
            self._layouts[key] = props
        return self._layouts[key]


def _group(groups: dict[str, h5g.GroupID], folder: str) -> h5g.GroupID:
    """The group `folder` ("obs", "obs/images") below groups[""], made on first use."""
    if folder not in groups:
        parent, _, leaf = folder.rpartition("/")
        groups[folder] = h5g.create(_group(groups, parent), leaf.encode())
    return groups[folder]


def _chunk_shape(value: NDArray[Any]) -> tuple[int, ...]:
    """Steps per chunk, then the whole of the other axes."""
    row = max(value[0].nbytes, 1)
    is_image = value.ndim > 2
    steps = 1 if is_image else max(1, min(len(value), _VECTOR_CHUNK_BYTES // row))
    return (steps, *value.shape[1:])


def _pack(episode: Episode) -> Packed:
    arrays = episode.arrays()
    for name, value in arrays.items():
        assert len(value) == len(episode) > 0, (name, value.shape, len(episode))
        assert not name.endswith("/") and name != OBS
    filtered: dict[str, list[bytes]] = {}
    for name, value in arrays.items():
        same = next((k for k in filtered if _same_pictures(arrays[k], value)), None)
        filtered[name] = _filter(value) if same is None else filtered[same]
    return episode, array_checksum(arrays), filtered


def _same_pictures(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether one array can stand for both: the picture of a task's first camera has two names."""
    return a.ndim > 2 and a.dtype == b.dtype and np.array_equal(a, b)


def _filter(value: NDArray[Any]) -> list[bytes]:
    """The chunks of an array as HDF5's shuffle and gzip filters would store them."""
    step = _chunk_shape(value)[0]
    chunks = []
    for start in range(0, len(value), step):
        part = np.ascontiguousarray(value[start : start + step])
        if len(part) < step:  # HDF5 stores whole chunks: the last one is filled up
            part = np.concatenate([part, np.zeros((step - len(part), *part.shape[1:]), part.dtype)])
        raw = part.reshape(-1).view(np.uint8)
        if part.itemsize > 1:
            raw = np.ascontiguousarray(raw.reshape(-1, part.itemsize).T)
        chunks.append(zlib.compress(raw.data, _GZIP_LEVEL))
    return chunks
