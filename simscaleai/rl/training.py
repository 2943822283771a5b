"""A whole run of reinforcement learning from settings alone.

    results = train_agent(RLConfig(env_name="reach", num_envs=128))

`rl.runner` lists the files of the run folder.
"""

from __future__ import annotations

import torch

from simscaleai.json_types import JsonDict
from simscaleai.rl.runner import Runner
from simscaleai.rl.settings import RLConfig


def train_agent(config: RLConfig) -> JsonDict:
    """Train an agent with the settings `config`, as `simscale rl` does.

    Returns:
      {"success_rate", "success_ci", "mean_reward", "mean_length", "diverged"} of the last evaluation,
      "timesteps", "seconds" since this start, "output_path", and "stopped" (whether a signal ended it early).

    Raises:
      UserError: settings, environment and checkpoints are incompatible; raised before the first step.
      CannotWriteError: the disk is full or the like; names the checkpoint to resume from.
    """
    config.check()
    threads = torch.get_num_threads()  # a setting of the whole process, which the run changes
    try:
        return Runner(config.complete()).train()
    finally:
        torch.set_num_threads(threads)
