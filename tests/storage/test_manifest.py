from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.array_statistics import ArrayStatistics
from simscaleai.storage.manifest import NAME, Manifest, read_manifest, write_manifest
from simscaleai.storage.shard_row import ShardRow

ABOUT = {
    "env_args": "{}",
    "arrays": {"actions": [[4], "float32"], "obs/image": [[8, 6, 3], "uint8"]},
    "shards": 3,
}


def row(number: int, count: int = 3, **changes) -> ShardRow:
    rng = np.random.default_rng(number)
    statistics = ArrayStatistics.of(rng.normal(size=(5, 4)))
    values = {
        "shard": f"shard-{number:05d}.h5",
        "lengths": rng.integers(1, 9, count),
        "seeds": rng.integers(2**63, 2**64, count, dtype=np.uint64),
        "successes": rng.random(count) < 0.5,
        "instructions": [f"task {i % 2}" for i in range(count)],
        "valid": np.arange(count) == 1,
        "nbytes": 1000 + number,
        "sha256": f"{number:064x}",
        "digests": rng.bytes(32 * count),
        "statistics": {"train": {"actions": statistics}},
        "reward": 1.5,
        "attempts": 4,
        "index_bytes": 100,
    }
    return ShardRow(**{**values, **changes})


def same(a: ShardRow, b: ShardRow) -> bool:
    names = [field.name for field in dataclasses.fields(ShardRow)]
    return all(
        np.array_equal(getattr(a, n), getattr(b, n)) for n in names if n != "statistics"
    ) and (a.statistics["train"]["actions"].to_dict() == b.statistics["train"]["actions"].to_dict())


def test_what_is_written_is_read(tmp_path):
    rows = [row(0), row(2, 5)]
    write_manifest(tmp_path, Manifest(rows, ABOUT))
    found = read_manifest(tmp_path, digests=True)
    assert all(same(a, b) for a, b in zip(rows, found.rows, strict=True))
    assert not found.complete  # two of three
    assert found.arrays()["obs/image"] == ((8, 6, 3), np.uint8)
    assert read_manifest(tmp_path).rows[0].digests == b""
    assert [p.name for p in tmp_path.iterdir()] == [NAME]
    write_manifest(tmp_path, Manifest([*rows, row(1)], ABOUT))
    assert read_manifest(tmp_path).complete
    assert read_manifest(tmp_path).statistics("all")["actions"].count == 15


def test_a_folder_without_one_is_no_dataset(tmp_path):
    with pytest.raises(MissingFileError, match=rf"without {NAME}, so it is no dataset"):
        read_manifest(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(MissingFileError, match=r"holds checkpoints, and no dataset; give the file"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"shard": "../../etc/passwd"},
        {"shard": "shard-00000.h5\n"},
        {"lengths": np.array([0, 1, 2])},
        {"lengths": np.array([2**60, 1, 2])},
        {"lengths": np.array([1, 2])},
        {"shard": "shard-00001.h5"},  # twice
    ],
    ids=str,
)
def test_rows_that_cannot_be(tmp_path, change):
    bad = dataclasses.replace(row(0), **change)
    if len(bad.lengths) == 2:
        bad = dataclasses.replace(bad, lengths=np.array([1, 2, 3]))
        write_manifest(tmp_path, Manifest([bad], ABOUT))
        table = pq.read_table(tmp_path / NAME)
        short = pa.array([[1, 2]], table.schema.field("steps").type)
        at = table.schema.get_field_index("steps")
        pq.write_table(table.set_column(at, "steps", short), tmp_path / NAME)
    else:
        write_manifest(tmp_path, Manifest([bad, row(1)], ABOUT))
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"actions": [[2**40], "float32"]},
        {"actions": [[-1], "float32"]},
        {"actions": [[4], "O"]},
        {"actions": [4]},
        [],
    ],
    ids=str,
)
def test_arrays_that_cannot_be(tmp_path, arrays):
    write_manifest(tmp_path, Manifest([row(0)], {**ABOUT, "arrays": arrays}))
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path)


def test_more_episodes_than_fit_in_the_file(tmp_path):
    """A hundred million equal values take a few hundred bytes of a file, and gigabytes of memory."""
    write_manifest(tmp_path, Manifest([row(0)], ABOUT))
    table = pq.read_table(tmp_path / NAME)
    at = table.schema.get_field_index("success")
    many = pa.array([[True] * 3_000_000], table.schema.field("success").type)
    pq.write_table(table.set_column(at, "success", many), tmp_path / NAME)
    assert (tmp_path / NAME).stat().st_size < 3_000_000
    with pytest.raises(UserError, match="more episodes than fit"):
        read_manifest(tmp_path)


def test_damage_is_one_sentence(tmp_path):
    write_manifest(tmp_path, Manifest([row(0), row(1)], ABOUT))
    path = tmp_path / NAME
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for case in range(40):
        data = bytearray(content)
        if case % 8 == 0:
            del data[int(rng.integers(len(data))) :]
        else:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            assert len(read_manifest(tmp_path).rows) == 2
        except UserError as error:
            assert NAME in str(error) and "\n" not in str(error)


def test_of_another_version(tmp_path):
    write_manifest(tmp_path, Manifest([row(0)], ABOUT))
    table = pq.read_table(tmp_path / NAME)
    about = {**json.loads(table.schema.metadata[b"simscaleai"]), "version": 99}
    changed = table.replace_schema_metadata({b"simscaleai": json.dumps(about)})
    pq.write_table(changed, tmp_path / NAME)
    with pytest.raises(UserError, match="another version"):
        read_manifest(tmp_path)
