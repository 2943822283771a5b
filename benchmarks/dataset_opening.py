"""How long a dataset of many episodes takes to open, and until training could begin.

    python benchmarks/dataset_opening.py [--episodes 20000]

Three files of the same episodes (10 to 29 steps, 23 numbers of state): ours; ours after another tool has put
a mask into it, so that its index is not used; and one that h5py wrote with its defaults. Processor time of
this process, with the file in the system's cache; memory is what the open file adds to the process.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from simscaleai.contract import EnvContract
from simscaleai.storage.episodes import Episode, EpisodeWriter, open_dataset
from simscaleai.training.data.dataset import TrajectoryDataset

KEYS = {"ee_pos": 3, "gripper_state": 2, "joint_pos": 7, "joint_vel": 7, "target_pos": 3, "time": 1}


def episodes(count: int) -> Iterator[Episode]:
    rng = np.random.default_rng(0)
    for i in range(count):
        steps = int(rng.integers(10, 30))
        yield Episode(
            obs={k: rng.normal(size=(steps, d)).astype(np.float32) for k, d in KEYS.items()},
            actions=rng.uniform(-1, 1, (steps, 4)).astype(np.float32),
            rewards=np.zeros(steps, np.float32),
            dones=np.arange(steps) == steps - 1,
            states=rng.normal(size=(steps, 30)),
            seed=i,
        )


def write(folder: Path, count: int) -> dict[str, Path]:
    """{what it is: file}"""
    ours, masked, other = (folder / name for name in ("ours.h5", "masked.h5", "other.h5"))
    shapes = {k: (d,) for k, d in KEYS.items()}
    contract = EnvContract("reach", {}, shapes, dict.fromkeys(KEYS, "float32"))
    with EpisodeWriter(ours, contract) as writer:
        writer.add_all(enumerate(episodes(count)))
    shutil.copy(ours, masked)
    with h5py.File(masked, "r+") as file:
        file["mask/core"] = np.array(["demo_0"], dtype="S")
    with h5py.File(other, "w") as file:
        for i, episode in enumerate(episodes(count)):
            demo = file.create_group(f"data/demo_{i}")
            demo.attrs["num_samples"] = len(episode)
            for key, value in episode.arrays().items():
                demo[key] = value
    return {"ours": ours, "ours, without its index": masked, "of h5py": other}


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=20_000)
    count = parser.parse_args().episodes
    table = Table("file", "MB", "open (s)", "memory (MB)", "training data (s)")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in write(Path(folder), count).items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            opening, data = seconds(lambda path=path: open_dataset(path))
            memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            data.close()
            loading, samples = seconds(lambda path=path: TrajectoryDataset(path, split="train"))
            assert len(samples.episodes) > 0.8 * count
            size = path.stat().st_size / 1e6
            table.add_row(name, *(f"{v:.2f}" for v in (size, opening, memory, loading)))
    Console().print(f"{count:,} episodes", table)


if __name__ == "__main__":
    main()
