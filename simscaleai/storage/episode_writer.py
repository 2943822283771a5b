"""Write a dataset: one HDF5 file in the robomimic layout.

    with atomic_path("data/reach.h5") as temporary:
        with EpisodeWriter(temporary, contract, seed=42) as writer:
            writer.add_all(enumerate(episodes))

An episode of a state-only task holds a few kB in a dozen HDF5 datasets, so HDF5's own bookkeeping is most of
the cost. Therefore: the low-level interface, reused property lists, the HDF5 1.10 format (a chunk index
without a B-tree, half the size), and chunks that are compressed on a thread pool and written as they are.

Chunks: a vector dataset is one chunk per episode (up to 64 KiB, then a few), an image dataset one
chunk per frame, so that reading one training sample touches few bytes. All are byte-shuffled and
gzipped, which any HDF5 library undoes. Observations have the names of `obs_names`; an image that has
two names is stored once. An index of all chunks follows in one table (`index`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5g, h5p, h5s, h5z

from simscaleai.array_types import Array
from simscaleai.contract import EnvContract
from simscaleai.observations import is_image_key
from simscaleai.storage.env_args import env_args_text
from simscaleai.storage.episode import (
    SCHEMA_VERSION,
    Episode,
    combine_digests,
    episode_digest,
    split_episodes,
)
from simscaleai.storage.hdf5_objects import Hdf5Objects, group_below
from simscaleai.storage.index import NAME as INDEX
from simscaleai.storage.index import Index
from simscaleai.storage.obs_names import file_names
from simscaleai.storage.packed_episode import GZIP_LEVEL, Packed, pack_episode
from simscaleai.storage.raw_hdf5 import MAX_EPISODES, RawArray, RawEpisodes
from simscaleai.storage.sealed_index import seal, sealed_size
from simscaleai.storage.stored_array import StoredArray, index_of
from simscaleai.storage.vetting import trust

_RAW_STEPS = 1000  # an array of one chunk then has less than a megabyte
_BLOCK = 32  # episodes that are compressed together, or fewer
_BLOCK_BYTES = 2**28  # that their values may take, and those of the next block beside them
_META_BLOCK_BYTES = 2**16  # HDF5 allocates its own structures in blocks of this size
_FILTERS = (h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE)


class EpisodeWriter:
    """Writes episodes to a new file; masks and totals follow when the `with` block ends well.

    Args:
      path: file to write; an existing one is replaced (give a temporary path, and rename).
      contract: the environment that made the episodes; None if it is not known.
      seed, valid_fraction: they decide which episodes are in /mask/train and /mask/valid.
      splits: {mask: positions}, in place of `seed` and `valid_fraction`.
      attributes: further attributes of /data: text, numbers.
      env_id: the environment's name for Gymnasium; by default that of the contract.
      raw: write the headers of episodes without the HDF5 library, twenty times as fast; where `fits_raw`.

    Attributes:
      index_place: first byte and number of bytes of the index in the finished file; (0, 0) if it has none.
    """

    def __init__(
        self,
        path: str | Path,
        contract: EnvContract | None,
        *,
        seed: int = 0,
        valid_fraction: float = 0.1,
        splits: Mapping[str, Iterable[int]] | None = None,
        attributes: Mapping[str, Any] | None = None,
        env_id: str | None = None,
        raw: bool = False,
    ) -> None:
        self._path = path
        self._names = {} if contract is None else file_names(contract)
        access = h5p.create(h5p.FILE_ACCESS)
        # both bounds: neither the older, larger chunk index, nor a format that only newer libraries read
        access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
        access.set_fclose_degree(h5f.CLOSE_STRONG)  # groups held open here must not keep it open
        access.set_meta_block_size(_META_BLOCK_BYTES)
        self._access = access
        self._raw = RawEpisodes(path, GZIP_LEVEL) if raw else None
        if not raw:
            creation = h5p.create(h5p.FILE_CREATE)
            self._file = h5f.create(os.fsencode(path), h5f.ACC_TRUNC, creation, access)
            self._data = h5g.create(self._file, b"data")
        self._seed, self._valid_fraction, self._splits = seed, valid_fraction, splits
        self._env_args = "{}" if contract is None else env_args_text(contract, env_id)
        self._attributes = dict(attributes or {})
        self._written: dict[int, tuple[str, dict[str, Any]]] = {}
        self._stored: dict[int, dict[str, StoredArray]] = {}
        self._total = 0
        self.index_place = 0, 0
        self._objects = Hdf5Objects()
        self._group = h5p.create(h5p.GROUP_CREATE)
        self._group.set_attr_phase_change(16, 8)  # keeps attributes in the object's header

    def add(self, position: int, episode: Episode) -> None:
        """Write /data/demo_<position>; positions come in any order, each once and without gaps."""
        self._add_block([(position, episode)])

    def add_all(self, episodes: Iterable[tuple[int, Episode]]) -> None:
        """`add` many (position, episode), compressing on all cores.

        A thread compresses and writes a block while `episodes` makes the next one.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool, ThreadPoolExecutor(1) as writer:
            writing: Future[None] | None = None
            for block in _blocks(episodes):
                if writing is not None:
                    writing.result()  # raises what went wrong
                writing = writer.submit(self._add_block, block, pool)
            if writing is not None:
                writing.result()

    def _add_block(
        self, block: Sequence[tuple[int, Episode]], pool: ThreadPoolExecutor | None = None
    ) -> None:
        """Compress and write some episodes; on all threads of `pool`."""
        # without images it is so little work that threads would only take turns with the GIL
        several = map if pool is None or self._raw is not None else pool.map
        whole = self._raw is not None
        packed = several(lambda item: pack_episode(item[1], self._names, whole), block)
        # all first: HDF5 calls hold the GIL, and compressing threads would starve beside them
        for (position, _), result in zip(block, list(packed), strict=True):
            self._write(position, result)

    def set_attribute(self, name: str, value: str | float) -> None:
        """Add an attribute of /data that is known only when the episodes are written."""
        self._attributes[name] = value

    @cached_property
    def content_hash(self) -> str:
        """The `datagen.content_hash` of the finished file."""
        return combine_digests(self.digests, self._env_args)

    @cached_property
    def digests(self) -> list[str]:
        """The `episode_digest` of each episode, in order, with the masks of the file."""
        return self._digests(self._masks())

    def _digests(self, masks: Mapping[str, set[int]]) -> list[str]:
        return [
            episode_digest(checksum, attributes, (m for m in masks if i in masks[m]))
            for i, (checksum, attributes) in sorted(self._written.items())
        ]

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, failed: type[BaseException] | None, *exc: object) -> None:
        if self._raw is not None:
            if failed is not None:
                self._raw.close()
                return
            self._raw.finish()  # from here on the library goes on with the file
            self._file = h5f.open(os.fsencode(self._path), h5f.ACC_RDWR, self._access)
            self._data = h5g.open(self._file, b"data")
        table = self._finish() if failed is None else None
        self._file.close()
        if table is not None:
            seal(self._path, *table)
            self.index_place = table[1], sealed_size(table[0])
        if failed is None:
            trust(self._path)

    def _finish(self) -> tuple[Index, int] | None:
        """Write masks and totals; return the index and the byte at which room for it is reserved."""
        count = len(self._written)
        # a bug of the caller and no bad input, so no UserError
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
            "episodes_hash": combine_digests(self._digests({}), self._env_args),
            **self._attributes,
        }
        self._objects.write_attributes(self._data, head)
        return self._reserve_index()

    def _reserve_index(self) -> tuple[Index, int] | None:
        """Reserve room for the index.

        None if episodes differ in their arrays, or if a seed or a success is not known: the file then has no
        index.
        """
        order = range(len(self._written))
        # the index has a number for each of them, and none that means unknown
        if any(not {"seed", "success"} <= self._written[i][1].keys() for i in order):
            return None
        if not order or any(self._stored[i].keys() != self._stored[0].keys() for i in order):
            return None
        columns = {path: [self._stored[i][path] for i in order] for path in self._stored[0]}
        table = index_of([self._written[i][1] for i in order], columns, _FILTERS)
        if table is None:
            return None
        props = h5p.create(h5p.DATASET_CREATE)
        props.set_layout(h5d.CONTIGUOUS)
        # room now, bytes later: the checksum in the table is that of the closed file
        props.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        props.set_fill_time(h5d.FILL_TIME_NEVER)
        props.set_obj_track_times(False)
        space = h5s.create_simple((sealed_size(table),))
        kind = self._objects.type_of(np.dtype(np.uint8))
        dataset = h5d.create(self._file, INDEX.encode(), kind, space, props)
        return table, dataset.get_offset()

    def _masks(self) -> dict[str, set[int]]:
        if self._splits is not None:
            return {name: set(positions) for name, positions in self._splits.items()}
        split = split_episodes(len(self._written), self._seed, self._valid_fraction)
        return {name: set(positions) for name, positions in split.items()}

    def _write(self, position: int, packed: Packed) -> None:
        episode, checksum, chunks = packed
        assert position not in self._written, position
        attributes = episode.attributes()
        self._written[position] = checksum, attributes
        self._total += len(episode)
        if self._raw is not None:
            self._write_raw(self._raw, position, {**attributes, "checksum": checksum}, chunks)
            return
        demo = h5g.create(self._data, f"demo_{position}".encode(), None, self._group)
        self._objects.write_attributes(demo, {**attributes, "checksum": checksum})
        groups = {"": demo}
        stored = self._stored[position] = {}
        for path, (value, filtered) in chunks.items():
            folder, _, leaf = path.rpartition("/")
            stored[path] = self._objects.write_array(
                group_below(groups, folder), leaf.encode(), value, filtered
            )

    def _write_raw(
        self,
        raw: RawEpisodes,
        position: int,
        attributes: Mapping[str, Any],
        chunks: Mapping[str, tuple[Array, list[bytes]]],
    ) -> None:
        """Write an episode whose arrays are one chunk each."""
        arrays = {
            path: RawArray(value.shape, value.dtype, filtered[0])
            for path, (value, filtered) in chunks.items()
        }
        offsets = raw.add(position, attributes, arrays)
        self._stored[position] = {
            path: StoredArray(a.shape[1:], a.dtype, a.shape[0], [offsets[path]], [len(a.chunk)])
            for path, a in arrays.items()
        }


def _blocks(episodes: Iterable[tuple[int, Episode]]) -> Iterator[list[tuple[int, Episode]]]:
    """Divide episodes, which are made as they are asked for, into parts that fit in memory."""
    block: list[tuple[int, Episode]] = []
    nbytes = 0
    for position, episode in episodes:
        block.append((position, episode))
        nbytes += sum(values.nbytes for values in episode.arrays().values())
        if len(block) == _BLOCK or nbytes >= _BLOCK_BYTES:
            yield block
            block, nbytes = [], 0
    if block:
        yield block


def fits_raw(contract: EnvContract, episodes: int, max_steps: int) -> bool:
    """Return whether a file of these episodes can be written with `raw`: few, short, and without images."""
    images = any(len(shape) > 2 or is_image_key(k) for k, shape in contract.obs_shapes.items())
    return not images and episodes <= MAX_EPISODES and max_steps <= _RAW_STEPS
