"""What LeRobot has no place for, in `meta/simscale.parquet`: seeds, success, splits and the contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from simscaleai.storage.episode import IDENTITY
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.lerobot_columns import LeRobotColumns


def write_own_table(
    folder: Path, data: EpisodeSource, exported: Sequence[int], columns: LeRobotColumns
) -> None:
    """Write what LeRobot has no place for, one line for each episode."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # sets, as each episode is looked up in each mask
    members = {name: set(positions) for name, positions in data.splits().items()}
    attributes = [name for name in (*IDENTITY, "model_sha256") if name not in ("seed", "success")]
    episodes = [data.episodes[i] for i in exported]
    table = pa.table(
        {
            "length": pa.array([e.length for e in episodes], pa.int64()),
            # None, where the source does not record them, becomes a missing value
            "seed": pa.array([e.seed for e in episodes], pa.uint64()),
            "success": pa.array([e.success for e in episodes], pa.bool_()),
            "masks": pa.array(
                [sorted(m for m in members if i in members[m]) for i in exported],
                pa.list_(pa.string()),
            ),
            **{
                name: pa.array(
                    [str(data.episode_attribute(i, name, "")) for i in exported],
                    pa.string(),
                )
                for name in attributes
            },
        }
    )
    about = {
        "version": layout.OWN_VERSION,
        "env_args": data.attribute("env_args", "{}"),
        "masks": sorted(members),
        "columns": columns.to_dict(),
    }
    table = table.replace_schema_metadata({layout.OWN_KEY: json.dumps(about).encode()})
    pq.write_table(table, folder / layout.OWN, compression="zstd")
