"""A whole run of reinforcement learning from settings alone.

    results = train_agent(RLConfig(env_name="reach", num_envs=128))

`rl.runner` says what the run's folder holds.
"""

from __future__ import annotations

from typing import Any

import torch

from simscaleai.rl.runner import Runner
from simscaleai.rl.settings import RLConfig


def train_agent(config: RLConfig) -> dict[str, Any]:
    """Train an agent as `config` says; what `simscale rl` does.

    Returns:
      {"success_rate", "success_ci", "mean_reward", "mean_length", "diverged"} of the last evaluation,
      "timesteps", "seconds" of this start, "output_path", and "stopped" (whether a signal ended it early).

    Raises:
      UserError: settings, environment and checkpoints do not fit together; before the first step.
      CannotWriteError: the disk is full or the like; names the checkpoint to resume from.
    """
    config.check()
    threads = torch.get_num_threads()
    try:
        return Runner(config.complete()).train()
    finally:
        torch.set_num_threads(threads)
