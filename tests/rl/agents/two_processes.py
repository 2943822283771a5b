"""PPO in the processes of one job: `test_ppo_processes.py` starts this with a folder."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from simscaleai.distributed import Processes
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.sim import make_vec_env


def digest(agent: PPOAgent) -> str:
    """Of everything that has to be the same in all processes."""
    parts = [*agent.network.parameters(), *agent.obs_rms.buffers()]
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in parts)).hexdigest()


def main() -> None:
    path = Path(sys.argv[1]) / "agent.pt"
    processes = Processes.from_environment()
    processes.join("cpu")
    config = PPOConfig(n_steps=8, n_epochs=2, batch_size=16, hidden_dim=16, target_kl=0.01)
    config.total_timesteps = 3 * 2 * 8 * 4
    agent = PPOAgent(20, 4, config, processes=processes)
    numbers: list[dict[str, float]] = []
    env = make_vec_env("reach", 4, autoreset_mode="same_step", num_threads=1)
    agent.train(env, numbers.append)
    seen = {
        "digest": digest(agent),
        "lr": agent.lr,
        "timesteps": agent.timesteps,
        "count": agent.obs_rms.count.item(),
        "reward": numbers[-1]["reward/distance"],
    }
    if processes.is_main:
        agent.save(path)
    processes.barrier()
    again = PPOAgent.from_checkpoint(path, processes=processes)
    again.config.total_timesteps += 64
    again.train(env, numbers.append)
    seen |= {"digest_again": digest(again), "reward_again": numbers[-1]["reward/distance"]}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
