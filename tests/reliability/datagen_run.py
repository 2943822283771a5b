"""A run of data generation for the tests to kill: python datagen_run.py OUTPUT WORKERS."""

from __future__ import annotations

import sys

from simscaleai import plugins
from simscaleai.datagen import generate_dataset, shards

SETTINGS = {
    "env_name": "reach",
    "n_episodes": 64,
    "policy_type": "scripted",
    "noise": 0.3,
    "max_steps": 30,
    "num_envs": 8,
    "env_kwargs": {"dt": 0.01},
    "show_progress": False,
}

shards.SHARD_EPISODES = 4  # many: a kill hits between, and in the middle of one

if __name__ == "__main__":
    plugins.request([__file__])  # so that workers have as many
    print("begin", flush=True)
    stats = generate_dataset(
        output_path=sys.argv[1], workers=int(sys.argv[2]), resume=True, **SETTINGS
    )
    print(stats["content_hash"], stats["resumed_episodes"], flush=True)
