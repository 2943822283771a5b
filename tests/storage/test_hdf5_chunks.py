"""Chunks unpacked here give what HDF5 gives, and never more than they declare."""

from __future__ import annotations

import os
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from simscaleai.storage.hdf5_chunks import ChunkError, Layout, find_chunks, layout_of, read_steps

FRAMES = np.arange(7 * 4 * 6 * 3).reshape(7, 4, 6, 3)
SHUFFLED = {"compression": "gzip", "shuffle": True}

# name: (dtype, options of create_dataset, whether rows can be found one by one)
STORED = {
    "contiguous": ("u1", {}, True),
    "frames": ("u1", {"chunks": (1, 4, 6, 3), "compression": "gzip"}, True),
    "several": ("u1", {"chunks": (3, 4, 6, 3), "compression": "gzip"}, True),
    "shuffled": (">u2", {"chunks": (2, 4, 6, 3), **SHUFFLED}, True),
    "checksum": ("f4", {"chunks": (2, 4, 6, 3), "fletcher32": True, **SHUFFLED}, True),
    "unfiltered": ("f8", {"chunks": (2, 4, 6, 3)}, True),
    "quarters": ("i4", {"chunks": (2, 2, 4, 3), **SHUFFLED}, False),
    "pixels": ("u1", {"chunks": (1, 1, 1, 1), "compression": "gzip"}, False),
    "lzf": ("u1", {"chunks": (1, 4, 6, 3), "compression": "lzf"}, False),
}


@pytest.fixture(params=STORED)
def stored(request, tmp_path):
    """An open dataset, its values and whether `find_chunks` can be used."""
    dtype, options, direct = STORED[request.param]
    values = FRAMES.astype(dtype)
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file.create_dataset("x", data=values, **options)
    with h5py.File(tmp_path / "x.h5") as file:
        yield file["x"].id, values, direct


def open_chunked(path, values, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, **options)
    return h5py.File(path, "r+")


def test_rows_are_those_of_hdf5(stored):
    dataset, values, _ = stored
    layout = layout_of(dataset)
    if layout is None:  # contiguous, lzf
        return
    for start, stop in ((0, 7), (3, 4), (2, 6), (6, 7)):
        out = np.empty((stop - start, 4, 6, 3), values.dtype.newbyteorder("="))
        np.testing.assert_array_equal(read_steps(dataset, layout, start, out), values[start:stop])


def test_found_chunks_hold_the_rows(stored, tmp_path):
    dataset, values, direct = stored
    path = tmp_path / "x.h5"
    chunks = find_chunks(dataset, path.stat().st_size)
    assert (chunks is not None) == direct
    if chunks is None:
        return
    with path.open("rb") as file:
        rows = [
            chunks.layout.decode(os.pread(file.fileno(), size, offset))
            for offset, size in zip(chunks.offsets, chunks.sizes, strict=True)
        ]
    np.testing.assert_array_equal(np.concatenate(rows)[:7], values)
    assert rows[0].dtype.isnative


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        x = file.create_dataset("x", (9, 2), "f4", chunks=(3, 2), compression="gzip", fillvalue=7)
        x[3:6] = 1
        assert find_chunks(x.id, 10**6) is None
        layout = layout_of(x.id)
        assert layout is not None
        out = read_steps(x.id, layout, 2, np.empty((5, 2), np.float32))
        np.testing.assert_array_equal(out, x[2:7])
        assert out[0, 0] == 7 and out[1, 0] == 1


def test_a_chunk_may_have_skipped_a_filter(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    with open_chunked(tmp_path / "x.h5", values, chunks=(1, 3), **SHUFFLED) as file:
        x = file["x"].id
        x.write_direct_chunk((1, 0), values[1].tobytes(), 0b11)  # as it is, without both
        assert find_chunks(x, 10**6) is None
        layout = layout_of(x)
        assert layout is not None
        np.testing.assert_array_equal(read_steps(x, layout, 0, np.empty_like(values)), values)


def test_chunks_outside_the_file_are_not_found(tmp_path):
    with open_chunked(tmp_path / "x.h5", FRAMES, chunks=(1, 4, 6, 3)) as file:
        assert find_chunks(file["x"].id, 10**6) is not None
        assert find_chunks(file["x"].id, 4000) is None


BOMB = zlib.compress(bytes(2**26), 9)  # 65 kB that make 64 MiB
DECLARED = np.zeros((6, 16), np.uint8)
SHORT = zlib.compress(DECLARED.tobytes())


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (BOMB, f"a chunk of {len(BOMB)} bytes for 96"),
        (zlib.compress(bytes(2**16), 9), "holds more than it declares"),
        (zlib.compress(bytes(90)), "does not hold its 96 bytes"),
        (SHORT[:-5], "cut short"),
        (b"no gzip", "is not gzip"),
    ],
    ids=["bomb", "long", "few", "cut", "garbage"],
)
def test_hostile_chunks(tmp_path, chunk, message):
    with open_chunked(tmp_path / "x.h5", DECLARED, chunks=(6, 16), compression="gzip") as file:
        x = file["x"].id
        x.write_direct_chunk((0, 0), chunk)
        layout = layout_of(x)
        assert layout is not None
        with pytest.raises(ChunkError, match=message):
            read_steps(x, layout, 0, np.empty_like(DECLARED))


def test_a_bomb_takes_no_memory():
    """64 MiB behind a chunk that is large enough to be let in."""
    layout = Layout((2**16,), np.dtype("u1"), (h5py.h5z.FILTER_DEFLATE,))
    layout.check_size(len(BOMB))
    tracemalloc.start()
    with pytest.raises(ChunkError, match="holds more"):
        layout.decode(BOMB)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_noise_is_let_in():
    """Gzip makes noise longer, by less than the slack."""
    noise = np.random.default_rng(0).integers(0, 256, 2**20, dtype=np.uint8)
    layout = Layout(noise.shape, noise.dtype, (h5py.h5z.FILTER_DEFLATE,))
    for level in (0, 1, 9):
        packed = zlib.compress(noise.tobytes(), level)
        assert len(packed) > layout.nbytes
        layout.check_size(len(packed))
        np.testing.assert_array_equal(layout.decode(packed), noise)
