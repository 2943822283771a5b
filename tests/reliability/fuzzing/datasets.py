"""Mutated HDF5 files through everything that reads a dataset: python datasets.py FOLDER SEED COUNT [CASE]."""

from __future__ import annotations

import contextlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import engine
import h5py
import numpy as np
from mutations import STRANGE, Rng, mutate_bytes, mutate_tree, pick

from simscaleai.contract import EnvContract
from simscaleai.datagen.validate import validate_dataset
from simscaleai.errors import UserError
from simscaleai.storage.episodes import open_dataset
from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.data.loader import make_loader

SHAPES = {"ee_pos": (3,), "image": (8, 8, 3), "images/front_cam": (8, 8, 3), "joint_pos": (7,)}
KINDS: list[Any] = [
    *("f2", "f4", "f8", "g", ">f4", "i1", ">i8", "u8", "?", "c8", "S4", "V8", "f4,i4"),
    *(h5py.string_dtype(), h5py.vlen_dtype("f4"), h5py.ref_dtype, h5py.enum_dtype({"A": 1})),
    np.dtype(("f4", (3,))),
]
SIZES = [(), (0,), (1,), (5,), (5, 0), (5, 4, 1, 1, 1), (4, 3), (10**9,), (5, 2**40), (2**62, 2)]


def write(path: Path, plain: bool) -> None:
    """Three episodes of five steps, in one of the two layouts."""
    rng = np.random.default_rng(0)
    dtypes = {k: "uint8" if k.startswith("image") else "float32" for k in SHAPES}
    contract = EnvContract("reach", {"dt": 0.005}, dict(SHAPES), dtypes, 4, 0.05).to_dict()
    with h5py.File(path, "w") as file:
        top = file if plain else file.create_group("data")
        if not plain:
            args = {"env_name": "reach", "type": 2, "env_kwargs": {}, "contract": contract}
            top.attrs.update(total=15, schema_version=1, env_args=json.dumps(args), recipe="{}")
        for i in range(3):
            demo = top.create_group(f"{'episode' if plain else 'demo'}_{i}")
            demo.attrs.update(num_samples=5, seed=i, success=bool(i), language="reach", policy="x")
            for key, shape in SHAPES.items():
                image = key.startswith("image")
                value = rng.integers(0, 255, (5, *shape)).astype("u1" if image else "f4")
                options = {"chunks": (1, *shape), "compression": "gzip"} if image else {}
                obs = "observations" if plain else "obs"
                demo.create_dataset(f"{obs}/{key}", data=value, **options)
            demo.create_dataset("actions", data=rng.uniform(-1, 1, (5, 4)).astype("f4"))
            demo.create_dataset("rewards", data=np.zeros(5, "f4"))
            demo.create_dataset("dones", data=np.arange(5) == 4)
            demo.create_dataset("states", data=np.zeros((5, 26)))
        if not plain:
            file["mask/train"] = np.array([b"demo_0", b"demo_1"])
            file["mask/valid"] = np.array([b"demo_2"])


@cache
def original(folder: Path, plain: bool) -> bytes:
    path = folder / f"{plain}.h5"
    write(path, plain)
    content = path.read_bytes()
    path.unlink()
    return content


def make(rng: Rng, folder: Path) -> Path:
    path = folder / "evil.h5"
    path.write_bytes(original(folder, bool(rng.random() < 0.25)))
    if rng.random() < 0.7:
        for _ in range(int(rng.integers(1, 4))):
            with contextlib.suppress(Exception), h5py.File(path, "r+") as file:
                mutate(rng, file)
    if rng.random() < 0.4:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
    return path


def mutate(rng: Rng, file: h5py.File) -> None:
    names: list[str] = []
    file.visit(names.append)
    name = pick(rng, names)
    change = int(rng.integers(10))
    if change == 0:
        del file[name]
    elif change == 1:
        file.move(
            name, pick(rng, ["x", "data/demo_x", f"{name}_", "\x1b[31m", f"{name}/x", "demo_9"])
        )
    elif change == 2:
        links = [
            h5py.SoftLink("/"),
            h5py.SoftLink("/x"),
            h5py.ExternalLink("/etc/passwd", "/"),
            file,
        ]
        del file[name]
        file[name] = pick(rng, links)
    elif change == 3:
        attributes(rng, file[name])
    elif change in (4, 5):
        owner = pick(
            rng, [file["data"], file[name], file[name].parent] if "data" in file else [file]
        )
        attributes(rng, owner)
    else:
        dataset(rng, file, name)


def attributes(rng: Rng, owner: Any) -> None:
    """A strange value in place of an attribute; of JSON a strange part."""
    name = pick(rng, [*owner.attrs, "num_samples", "seed", "language", "success"])
    value = owner.attrs.get(name)
    if isinstance(value, str) and value.startswith("{") and rng.random() < 0.8:
        text = json.dumps(mutate_tree(rng, json.loads(value)))
        value = text if rng.random() < 0.8 else text[: len(text) // 2]
    else:
        large: list[Any] = [np.zeros(7000), "x" * 60_000, b"\xff\xfe", h5py.Empty("f4")]
        large += [np.bytes_(b"x" * 60_000), np.array(["a", "b"], "S1"), np.array([[1]]), owner.ref]
        value = pick(rng, [*large, *(v for v in STRANGE if not isinstance(v, dict))])
    owner.attrs[name] = value


def dataset(rng: Rng, file: h5py.File, name: str) -> None:
    """Another dataset in place of an object: of another type, size, storage or content."""
    old = file[name]
    shape, dtype, values = (5, 4), np.dtype("f4"), None
    if isinstance(old, h5py.Dataset):
        shape, dtype, values = old.shape, old.dtype, old[()]
    change = int(rng.integers(6))
    del file[name]
    if change == 0:
        file.create_dataset(name, shape, pick(rng, KINDS))
    elif change == 1:
        file.create_dataset(
            name, pick(rng, SIZES), dtype, chunks=True if rng.random() < 0.5 else None
        )
    elif change == 2 and values is not None and dtype.kind == "f":
        values[int(rng.integers(len(values)))] = pick(rng, [np.nan, np.inf, 1e30, -5])
        file[name] = values
    elif change == 3:
        options = [
            {"compression": "lzf"},
            {"scaleoffset": 4},
            {"fletcher32": True, "shuffle": True},
        ]
        options += [{"compression": "gzip", "fillvalue": 7}, {"chunks": (2**20, 64)}]
        rows = (4 * 10**6, 64) if rng.random() < 0.5 else (5, 4)
        file.create_dataset(name, rows, dtype, maxshape=(None, None), **pick(rng, options))
    elif change == 4:
        file.create_group(name)
    else:
        layout = h5py.VirtualLayout((5, 4), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (5, 4))
        file.create_virtual_dataset(name, layout)


def use(path: Path) -> None:
    """Open, read, check and learn from it; a refusal of one way does not save from the next."""
    refused: UserError | None = None
    for way in (_read, validate_dataset, _learn):
        try:
            way(path)
        except UserError as error:
            refused = error
    if refused is not None:
        raise refused


def _read(path: Path) -> None:
    with open_dataset(path) as data:
        refused: UserError | None = None
        for get in (lambda: data.contract, lambda: data.env_args, data.splits):
            try:
                get()
            except UserError as error:
                refused = error
        for i in range(len(data)):
            for name in ("policy", "randomization", "checksum"):
                data.episode_attribute(i, name)
            for key in data.keys(i):
                data.shape(i, key)
                data.dtype(i, key)
                data.read(i, key, 1, 3)
        if refused is not None:
            raise refused


def _learn(path: Path) -> None:
    for options in ({"split": "train", "cache_mb": 0}, {"seq_len": 3, "obs_steps": 2}):
        data = TrajectoryDataset(path, include_language=True, **options)
        for _ in make_loader(data, 4):
            pass


if __name__ == "__main__":
    engine.main(make, use)
