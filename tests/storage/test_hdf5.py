"""Hostile files: each is refused with one sentence, before anything it names is followed."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.hdf5 import SafeFile
from simscaleai.storage.hdf5_library import library_problem


@pytest.fixture
def path(tmp_path):
    return tmp_path / "evil.h5"


def base(path):
    """A file with one good episode, open for adding a bad object."""
    file = h5py.File(path, "w")
    file["data/demo_0/actions"] = np.zeros((6, 4), np.float32)
    file["data/demo_0/rewards"] = np.zeros(6, np.float32)
    file["data/demo_0/obs/ee_pos"] = np.zeros((6, 3), np.float32)
    return file


def read_everything(path):
    with open_dataset(path) as data:
        data.splits()
        data.split("train")
        assert data.contract is None or data.contract
        for i in range(len(data)):
            for key in data.keys(i):
                data.read(i, key)


def other_file(path):
    other = path.with_name("secret.h5")
    with h5py.File(other, "w") as file:
        file["x"] = np.arange(18, dtype=np.float32).reshape(6, 3)
        file.create_group("demo_0")["actions"] = np.zeros((6, 4))
    return other


def external_link_to_array(file, path):
    file["data/demo_0/obs/x"] = h5py.ExternalLink(other_file(path), "x")


def external_link_to_group(file, path):
    file["data/demo_1"] = h5py.ExternalLink(other_file(path), "demo_0")


def soft_link(file, path):
    file["data/demo_0/obs/x"] = h5py.SoftLink("/data/demo_0/actions")


def dangling_data(file, path):
    file.move("data", "elsewhere")
    file["data"] = h5py.SoftLink("/elsewhere")


def external_storage(file, path):
    secret = path.with_name("secret.bin")
    secret.write_bytes(bytes(72))
    file.create_dataset("data/demo_0/obs/x", (6, 3), "f4", external=[(secret, 0, 72)])


def virtual_dataset(file, path):
    layout = h5py.VirtualLayout((6, 3), "f4")
    layout[:] = h5py.VirtualSource(other_file(path), "x", (6, 3))
    file.create_virtual_dataset("data/demo_0/obs/x", layout)


def pickles(file, path):
    kind = h5py.vlen_dtype(np.uint8)
    file.create_dataset("data/demo_0/obs/x", (6,), kind)[0] = np.arange(3, dtype=np.uint8)


def strings(file, path):
    file["data/demo_0/obs/x"] = np.array(["a"] * 6, dtype=h5py.string_dtype())


def compound(file, path):
    file["data/demo_0/obs/x"] = np.zeros(6, [("a", "f4"), ("b", "i4")])


def references(file, path):
    file.create_dataset("data/demo_0/obs/x", (6,), h5py.ref_dtype)


def enumeration(file, path):
    kind = h5py.enum_dtype({"RED": 0, "GREEN": 1}, basetype="i1")
    file.create_dataset("data/demo_0/obs/x", data=np.zeros(6, "i1"), dtype=kind)


def absurd_shape(file, path):
    file.create_dataset("data/demo_0/obs/x", (2**40, 3), "f4", chunks=(1024, 3))


def never_written(file, path):
    file.create_dataset("data/demo_0/obs/x", (6, 3), "f4", chunks=(6, 3))


def huge_chunk(file, path):
    file.create_dataset("data/demo_0/obs/x", (6, 2**20, 60), "u1", chunks=(6, 2**20, 60))


def lengths_disagree(file, path):
    file["data/demo_0/obs/x"] = np.zeros((7, 3), np.float32)


def num_samples_disagree(file, path):
    file["data/demo_0"].attrs["num_samples"] = 5


def scalar(file, path):
    file["data/demo_0/obs/x"] = 1.0


def null_space(file, path):
    file["data/demo_0/obs/x"] = h5py.Empty("f4")


def plugin_filter(file, path):
    # 1 of 200: "optional" lets the file be written where no such plugin is installed.
    props = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    props.set_chunk((6, 3))
    props.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (1,))
    space, group = h5py.h5s.create_simple((6, 3)), file["data/demo_0/obs"].id
    h5py.h5d.create(group, b"x", h5py.h5t.IEEE_F32LE, space, props).write_direct_chunk(
        (0, 0), bytes(72)
    )


def mask_of_strangers(file, path):
    file["mask/train"] = np.array(["demo_7"], dtype="S")


def mask_of_numbers(file, path):
    file["mask/train"] = np.zeros(1)


def endless_mask(file, path):
    file.create_dataset("mask/train", (2**40,), "S8", chunks=(2**16,))


def env_args_no_json(file, path):
    file["data"].attrs["env_args"] = "{'not': json"


def env_args_deep_json(file, path):
    file["data"].attrs["env_args"] = "[" * 30_000


def env_args_no_text(file, path):
    file["data"].attrs["env_args"] = np.zeros(5)


def env_args_bad_contract(file, path):
    file["data"].attrs["env_args"] = '{"contract": {"obs_shapes": {"a": 3}}}'


def group_for_array(file, path):
    del file["data/demo_0/actions"]
    file.create_group("data/demo_0/actions")


def array_for_group(file, path):
    file["data/demo_1"] = np.zeros(3)


def garbage_chunk(file, path):
    file.create_dataset("data/demo_0/obs/x", (6, 3), "f4", chunks=(6, 3), compression="gzip")
    file["data/demo_0/obs/x"].id.write_direct_chunk((0, 0), b"this is not deflated" * 3)


def bomb_in_small_chunk(file, path):
    file.create_dataset("data/demo_0/obs/x", (6, 3), "f4", chunks=(6, 3), compression="gzip")
    file["data/demo_0/obs/x"].id.write_direct_chunk((0, 0), zlib.compress(bytes(2**26), 9))


def bomb_among_names(file, path):
    names = file.create_dataset("mask/train", (1,), "S6", chunks=(1,), compression="gzip")
    names.id.write_direct_chunk((0,), zlib.compress(bytes(2**26), 9))


def gzipped_texts(file, path):
    file.create_dataset("mask/train", data=["demo_0"], chunks=(1,), compression="gzip")


def gzipped_odd_numbers(file, path):
    twelve_bits = h5py.h5t.STD_I16LE.copy()
    twelve_bits.set_precision(12)
    props = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    props.set_chunk((6, 3))
    props.set_deflate(1)
    space = h5py.h5s.create_simple((6, 3))
    x = h5py.h5d.create(file["data/demo_0/obs"].id, b"x", twelve_bits, space, props)
    h5py.Dataset(x)[:] = 0


def gzip_inside_lzf(file, path):
    props = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    props.set_chunk((6, 3))
    props.set_deflate(1)
    props.set_filter(h5py.h5z.FILTER_LZF)
    kind, space = h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((6, 3))
    x = h5py.h5d.create(file["data/demo_0/obs"].id, b"x", kind, space, props)
    h5py.Dataset(x)[:] = 0


HOSTILE = [
    (external_link_to_array, "is a link into another file"),
    (external_link_to_group, "is a link into another file"),
    (soft_link, "is a soft link"),
    (dangling_data, "is a soft link"),
    (external_storage, "in another file"),
    (virtual_dataset, "virtual dataset"),
    (pickles, "plain numbers"),
    (strings, "plain numbers"),
    (compound, "plain numbers"),
    (references, "plain numbers"),
    (enumeration, "plain numbers"),
    (absurd_shape, "declares 13194139533312 bytes"),
    (never_written, "declares 72 bytes but stores 0"),
    (huge_chunk, "chunks of more than"),
    (lengths_disagree, "has 7 steps but 6 actions"),
    (num_samples_disagree, "says 5 steps but has 6 actions"),
    (scalar, "no axis of time"),
    (null_space, "no axis of time"),
    (plugin_filter, "compression plugin"),
    (mask_of_strangers, "names 'demo_7', which is not there"),
    (mask_of_numbers, "not a list of names"),
    (endless_mask, "declares"),
    (env_args_no_json, "not JSON"),
    (env_args_deep_json, "not JSON"),
    (env_args_no_text, "no single text or number"),
    (env_args_bad_contract, "unreadable `contract`"),
    (group_for_array, "is not a dataset"),
    (array_for_group, "is not a group"),
    (garbage_chunk, "cannot be decoded"),
    (bomb_in_small_chunk, "has a chunk of 65[0-9]{3} bytes for 72 bytes"),
    (bomb_among_names, "has a chunk of 65[0-9]{3} bytes for 6 bytes"),
    (gzipped_texts, "gzipped list of names"),
    (gzipped_odd_numbers, "gzipped and does not hold plain numbers"),
    (gzip_inside_lzf, "compressed twice"),
]


def test_the_base_is_fine(path):
    base(path).close()
    read_everything(path)


@pytest.mark.parametrize(("spoil", "message"), HOSTILE, ids=[f.__name__ for f, _ in HOSTILE])
def test_hostile_files_are_refused(path, spoil, message):
    with base(path) as file:
        spoil(file, path)
    with pytest.raises(UserError, match=message) as caught:
        read_everything(path)
    assert str(path) in str(caught.value)


def test_gzip_bomb(path):
    """65 kB that unpack to 64 MiB a dataset: each is within bounds, all together are not."""
    bomb = zlib.compress(bytes(2**26), 9)
    with base(path) as file:
        for i in range(30):
            actions = file.create_dataset(
                f"data/demo_{i + 1}/actions",
                (2**20, 16),
                "f4",
                chunks=(2**20, 16),
                compression="gzip",
            )
            actions.id.write_direct_chunk((0, 0), bomb)
    with pytest.raises(UserError, match="decompressed size"):
        open_dataset(path)


def test_one_storage_for_many_arrays_is_counted(path, monkeypatch):
    """Memory stays bounded when the same good array is linked into thousands of episodes."""
    monkeypatch.setattr("simscaleai.storage.hdf5.MAX_TOTAL_BYTES", 2**20)
    with base(path) as file:
        file["data/demo_0/big"] = np.zeros((6, 2**14), np.float64)  # 768 KiB
        for i in range(1, 400):
            file[f"data/demo_{i}"] = file["data/demo_0"]
    with pytest.raises(UserError, match="decompressed size"):
        read_everything(path)


def test_old_libraries_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2026-26200 is fixed in 1.14.6; 2.x has the fix."""
    assert all(library_problem(version) == "" for version in [(1, 14, 6), (2, 0, 0), (2, 1, 1)])
    path = tmp_path / "a.h5"
    h5py.File(path, "w").close()
    monkeypatch.setattr(h5py.version, "hdf5_version_tuple", (1, 14, 5))
    with pytest.warns(UserWarning, match=r"1\.14\.5.*CVE-2026-26200.*pip install -U h5py"):
        SafeFile(path).close()
