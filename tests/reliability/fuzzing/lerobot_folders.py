"""Mutated LeRobot folders through import and training: python lerobot_folders.py FOLDER SEED COUNT [CASE]."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import datasets
import engine
import pyarrow as pa
import pyarrow.parquet as pq
from mutations import Rng, mutate_bytes, mutate_tree, pick

from simscaleai.datagen import dataset_info, export_dataset
from simscaleai.datagen.imported_dataset import CACHE, imported_dataset
from simscaleai.errors import UserError
from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.data.loader import make_loader

OWN = "meta/simscale.parquet"
OUTSIDE = "outside"  # a folder beside the damaged one, to which links lead


@cache
def original(video: bool) -> dict[str, bytes]:
    """{name: content} of the files of a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        source, folder = Path(temporary, "source.h5"), Path(temporary, "source")
        datasets.write(source, plain=False)
        export_dataset(source, folder, video=video, show_progress=False)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def make(rng: Rng, folder: Path) -> Path:
    path = folder / "evil"
    shutil.rmtree(path, ignore_errors=True)
    files = original(bool(rng.random() < 0.2))
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    if rng.random() < 0.5:  # else anyone's folder
        (path / OWN).unlink()
    outside = folder / OUTSIDE
    outside.mkdir(exist_ok=True)
    (outside / "file").write_text("{}")
    for _ in range(int(rng.integers(1, 3))):
        name = pick(rng, list(files))
        # nothing is written through a link that the first change made: it leads out
        if (path / name).resolve() == path.resolve() / name:
            mutate(rng, path / name, outside)
    assert [p.read_text() for p in outside.iterdir()] == ["{}"]
    return path


def mutate(rng: Rng, file: Path, outside: Path) -> None:
    if not file.is_file() or rng.random() < 0.15:
        replace(rng, file, outside)
    elif file.suffix not in (".json", ".parquet") or rng.random() < 0.4:
        file.write_bytes(mutate_bytes(rng, file.read_bytes()))
    elif file.suffix == ".json":
        with contextlib.suppress(ValueError):  # its bytes have been changed before
            file.write_text(json.dumps(mutate_tree(rng, json.loads(file.read_text()))))
    else:
        mutate_table(rng, file)


def replace(rng: Rng, file: Path, outside: Path) -> None:
    """Put something else in the place of a file, or of its folder."""
    if rng.random() < 0.2:
        file = file.parent
    if not file.parent.is_dir():  # its folder has gone before
        return
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)
    links = [str(outside), str(outside / "file"), "../..", "x", "/dev/zero"]
    target = pick(rng, ["", "folder", "pipe", *links])
    if target == "folder":
        file.mkdir()
    elif target == "pipe":
        os.mkfifo(file)
    elif target:
        file.symlink_to(target)


def mutate_table(rng: Rng, file: Path) -> None:
    """Change the values of one column to others that Arrow can hold."""
    with contextlib.suppress(pa.ArrowException, OSError, ValueError, TypeError, OverflowError):
        table = pq.read_table(file, use_threads=False)
        k = int(rng.integers(table.num_columns))
        values = pa.array(mutate_tree(rng, table.column(k).to_pylist()))
        pq.write_table(table.set_column(k, table.column_names[k], values), file)


def use(path: Path) -> None:
    """Import it as training does, look at both and learn; nothing is written but into the cache."""
    outside = path.parent / OUTSIDE
    before = _listing(path), _listing(outside)
    os.environ[CACHE] = str(path.parent / "cache")
    refused: UserError | None = None
    for way in (_learn, dataset_info):
        try:
            way(path)
        except UserError as error:
            refused = error
    assert (_listing(path), _listing(outside)) == before
    assert {p.name for p in path.parent.iterdir()} <= {path.name, OUTSIDE, "cache"}
    assert all(p.name.isdigit() for p in path.parent.parent.iterdir())
    if refused is not None and not list(path.parent.rglob("cache/**/*.h5")):
        raise refused


def _learn(path: Path) -> None:
    imported, _ = imported_dataset(path, show_progress=False)
    dataset_info(imported)
    for _ in make_loader(TrajectoryDataset(imported, include_language=True), 4):
        pass


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of all files."""
    found = ((str(p.relative_to(folder)), p.lstat()) for p in sorted(folder.rglob("*")))
    return [(name, about.st_size, about.st_mtime_ns) for name, about in found]


if __name__ == "__main__":
    engine.main(make, use)
