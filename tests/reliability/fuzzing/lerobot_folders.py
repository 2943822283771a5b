"""Mutated LeRobot folders through import: python lerobot_folders.py FOLDER SEED COUNT [CASE]."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import datasets
import engine
import pyarrow as pa
import pyarrow.parquet as pq
from mutations import Rng, mutate_bytes, mutate_tree, pick

from simscaleai.datagen import export_dataset, import_dataset

PARTS = (
    "meta/info.json",
    "meta/tasks.parquet",
    "meta/simscale.parquet",
    "meta/episodes/chunk-000/file-000.parquet",
    "data/chunk-000/file-000.parquet",
)


@cache
def original(folder: Path) -> dict[str, bytes]:
    datasets.write(folder / "source.h5", plain=False)
    export_dataset(folder / "source.h5", folder / "source", show_progress=False)
    content = {name: (folder / "source" / name).read_bytes() for name in PARTS}
    shutil.rmtree(folder / "source")
    (folder / "source.h5").unlink()
    return content


def make(rng: Rng, folder: Path) -> Path:
    path = folder / "evil"
    shutil.rmtree(path, ignore_errors=True)
    for name, content in original(folder).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    if rng.random() < 0.5:  # else anyone's folder
        (path / "meta/simscale.parquet").unlink()
    for _ in range(int(rng.integers(1, 3))):
        file = path / pick(rng, PARTS)
        if not file.exists() or rng.random() < 0.1:
            file.unlink(missing_ok=True)
        elif rng.random() < 0.4:
            file.write_bytes(mutate_bytes(rng, file.read_bytes()))
        elif file.suffix == ".json":
            file.write_text(json.dumps(mutate_tree(rng, json.loads(file.read_text()))))
        else:
            mutate_table(rng, file)
    return path


def mutate_table(rng: Rng, file: Path) -> None:
    """Change the values of one column to others that Arrow can hold."""
    with contextlib.suppress(pa.ArrowException, OSError, ValueError, TypeError, OverflowError):
        table = pq.read_table(file)
        k = int(rng.integers(table.num_columns))
        values = pa.array(mutate_tree(rng, table.column(k).to_pylist()))
        pq.write_table(table.set_column(k, table.column_names[k], values), file)


def use(path: Path) -> None:
    output = path.with_name("out.h5")
    import_dataset(path, output, overwrite=True, show_progress=False)


if __name__ == "__main__":
    engine.main(make, use)
