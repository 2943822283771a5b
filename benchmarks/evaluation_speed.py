"""How many episodes of a policy that reads images are evaluated in a second.

    python benchmarks/evaluation_speed.py [--episodes 128] [--num-envs 64]

The policy is a behavior-cloning network of the recipe bc_image_200 (two cameras of 64 x 64 pixels), or of one
camera, with random weights. It acts in every step, but the actions of the scripted expert are executed: so
episodes are as long as those of a policy that succeeds, and everything is paid for that a trained policy
costs. Besides the time on the clock, the table has CPU seconds, which other programs on the machine disturb
less; without others, n cores give at most n / (CPU s per episode) episodes a second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from simscaleai.evaluation.suite import run_suite, suite
from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.policy import Policy
from simscaleai.sim import make_vec_env
from simscaleai.sim.base_env import CameraConfig
from simscaleai.sim.vector_env import TaskVectorEnv

RUNS = (
    ("reach", ("wrist_cam",)),
    ("pick_place", ("wrist_cam",)),
    ("pick_place", ("wrist_cam", "front_cam")),
)
STATE = ("ee_pos", "gripper_state")


class Watched:
    """A network that acts, and an expert whose actions are executed."""

    def __init__(self, network: ModelPolicy, expert: Policy) -> None:
        self._network, self._expert = network, expert
        self.seconds = 0.0  # of the network

    def reset(
        self, mask: np.ndarray, seeds: Sequence[int], instructions: Sequence[str] | None = None
    ) -> None:
        self._network.reset(mask, seeds, instructions)
        self._expert.reset(mask, seeds, instructions)

    def rest(self, mask: np.ndarray) -> None:
        self._network.rest(mask)

    def act(self, obs: Mapping[str, Any]) -> np.ndarray:
        start = time.process_time()
        self._network.act(obs)
        self.seconds += time.process_time() - start
        return self._expert.act(obs)


def network_for(env: TaskVectorEnv) -> ModelPolicy:
    """Return the network of bc_image_200 for the cameras of an environment, with random weights."""
    space = env.single_observation_space
    wanted = [k for k in space if k in STATE or k == "image" or k.startswith("images/")]
    if any(k.startswith("images/") for k in wanted):
        wanted.remove("image")  # the same as that of the first camera
    spec = ObsSpec(
        {k: tuple(space[k].shape or ()) for k in sorted(wanted)},
        {k: str(space[k].dtype) for k in sorted(wanted)},
    )
    cameras = [c.name for c in env.config.cameras] if len(env.config.cameras) > 1 else None
    given: dict[str, Any] = {"cameras": cameras} if cameras else {"use_image": True}
    size = {"image_size": 64, "backbone_width": 16}  # those of the recipe
    model = create_model("bc", state_dim=spec.state_dim, action_dim=4, **size, **given)
    statistics = {"state": Statistics.of(torch.randn(50, spec.state_dim))}
    return ModelPolicy(model, spec, Normalizer(statistics))


def measure(name: str, cameras: Sequence[str], episodes: int, num_envs: int) -> tuple[str, ...]:
    settings = [CameraConfig(camera, 64, 64) for camera in cameras]
    env = make_vec_env(name, num_envs, autoreset_mode="disabled", cameras=settings)
    policy = Watched(network_for(env), env.task.expert())
    list(run_suite(env, policy, suite(1, num_envs)))  # compiles and warms up
    policy.seconds = 0.0
    start, busy = time.perf_counter(), time.process_time()
    results = list(run_suite(env, policy, suite(0, episodes)))
    wall, busy = time.perf_counter() - start, time.process_time() - busy
    steps = sum(result.length for result in results)
    env.close()
    return (
        name,
        ", ".join(cameras),
        f"{steps / episodes:.1f}",
        f"{episodes / wall:.1f}",
        f"{steps / wall:.0f}",
        f"{1000 * busy / episodes:.0f}",
        f"{100 * policy.seconds / busy:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=128)
    parser.add_argument("--num-envs", type=int, default=64)
    args = parser.parse_args()
    table = Table(title=f"{args.episodes} episodes, {args.num_envs} at once, images of 64 x 64")
    for column in ("task", "cameras", "mean steps", "episodes/s", "steps/s"):
        table.add_column(column)
    table.add_column("CPU ms per episode")
    table.add_column("of them the network (%)")
    for name, cameras in RUNS:
        table.add_row(*measure(name, cameras, args.episodes, args.num_envs))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
