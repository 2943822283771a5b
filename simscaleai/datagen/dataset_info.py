"""What a dataset says of itself, without reading its episodes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from simscaleai.convert import converted
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import OBS
from simscaleai.storage.episodes import ShardedDataset, open_dataset


@converted
def dataset_info(dataset: str | Path) -> JsonDict:
    """Return a description of a file or a folder of shards.

    Returns:
      {"path", "file_size_mb", "episodes", "steps", "shortest", "longest", "mean_length" (steps),
      "successful", "failed", "unknown_success", "instructions" {sentence: episodes}, "splits"
      {name: episodes}, "environment", "robot", "fps", "arrays" {key: "shape dtype"} of one step,
      "content_hash"}; what is not known is None.

    Raises:
      UserError: there is no dataset, or it is refused.
    """
    path = Path(dataset)
    with open_dataset(path) as data:
        lengths = np.array([episode.length for episode in data.episodes])
        successes = Counter(episode.success for episode in data.episodes)
        files = (
            [data.shard_path(k) for k in range(len(data.rows))]
            if isinstance(data, ShardedDataset)
            else [path]
        )
        contract = data.contract
        fps = data.attribute("fps") if contract is None else 1 / contract.control_dt
        i = data.example
        return {
            "path": str(path),
            "file_size_mb": sum(file.stat().st_size for file in files) / 1e6,
            "episodes": len(data),
            "steps": int(lengths.sum()),
            "shortest": int(lengths.min()),
            "longest": int(lengths.max()),
            "mean_length": float(lengths.mean()),
            "successful": successes[True],
            "failed": successes[False],
            "unknown_success": successes[None],
            "instructions": dict(
                Counter(e.language for e in data.episodes if e.language).most_common()
            ),
            "splits": {name: len(data.split(name)) for name in ("train", "valid")},
            "environment": None if contract is None else contract.env_name,
            "robot": None if contract is None else contract.env_config.get("robot"),
            "fps": None if fps is None else float(fps),
            "arrays": {
                key: f"{list(data.shape(i, key)[1:])} {data.dtype(i, key).name}"
                for key in ("actions", *(OBS + key for key in data.obs_keys))
            },
            "content_hash": data.attribute("content_hash"),
        }
