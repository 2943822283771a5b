"""How often the scripted experts succeed, and how still a held cube stays.

    python benchmarks/experts.py [--episodes 1000] [--grasps 64] [--robot panda] [--tasks sort]

The first table runs each expert over unseen episodes. The second one grasps the cube from the task's
own starts (any yaw), then throws the hand about for 10 s at full speed in a random direction that
changes every 0.4 s, and reports how far the cube crept in the hand's frame.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from simscaleai.evaluation import EvalConfig, evaluate_policy
from simscaleai.evaluation.suite import episode_seed
from simscaleai.sim import make_vec_env
from simscaleai.sim.robots.robot import find_robot, list_robots

RUNS: tuple[tuple[str, float, str | None], ...] = (
    ("reach", 0.002, None),
    ("reach", 0.005, None),
    ("reach", 0.002, "default"),
    ("pick_place", 0.002, None),
    ("pick_place", 0.005, None),
    ("pick_place", 0.002, "light"),
    ("pick_place", 0.002, "default"),
    ("pick_place", 0.002, "heavy"),
    ("reach_color", 0.002, None),
    ("reach_color", 0.002, "default"),
    ("pick_place_color", 0.002, None),
    ("pick_place_color", 0.005, None),
    ("pick_place_color", 0.002, "default"),
    ("sort", 0.002, None),
    ("sort", 0.005, None),
    ("sort", 0.002, "default"),
    ("sort", 0.002, "heavy"),
    ("reach_around", 0.002, None),
    ("reach_around", 0.005, None),
    ("reach_around", 0.002, "default"),
)


def success(episodes: int, robot: str, tasks: list[str]) -> Table:
    table = Table(title=f"Experts over {episodes} episodes, {robot}")
    for column in ("task", "dt (s)", "randomization", "success (%)", "95 % interval", "mean steps"):
        table.add_column(column)
    table.add_column("failures")
    for name, dt, level in RUNS:
        if name not in find_robot(robot).tasks or (tasks and name not in tasks):
            continue
        settings: dict[str, Any] = {
            "robot": robot,
            "dt": dt,
            "domain_randomization": level is not None,
        }
        if level is not None:
            settings["randomization_level"] = level
        env = make_vec_env(name, min(episodes, 256), autoreset_mode="disabled", **settings)
        result = evaluate_policy(env, env.task.expert().act, EvalConfig(n_episodes=episodes))
        low, high = result["success_ci"]
        table.add_row(
            name,
            f"{dt}",
            level or "off",
            f"{100 * result['success_rate']:.1f}",
            f"{100 * low:.1f} to {100 * high:.1f}",
            f"{result['mean_length']:.1f}",
            ", ".join(f"{k} {v}" for k, v in result["failure_stages"].items()) or "none",
        )
    return table


def creep(grasps: int, dt: float, robot: str, seconds: float = 10.0) -> np.ndarray:
    """How far each held cube moved in the hand's frame (m); infinite if it was lost."""
    env = make_vec_env(
        "pick_place",
        grasps,
        robot=robot,
        autoreset_mode="disabled",
        dt=dt,
        max_episode_steps=10_000,
    )
    obs, _ = env.reset(seed=[episode_seed(0, i) for i in range(grasps)])
    # a target that is out of reach: the expert grasps and lifts, and the episode goes on
    env.sim.mocap_pos[:, env.task.target] = env.sim.qpos[:, env.task.position] + (0, 0, 1.0)
    obs["target_pos"] = env.sim.mocap_pos[:, env.task.target].astype(np.float32)
    expert = env.task.expert()
    for _ in range(30):
        obs, *_ = env.step(expert.act(obs))

    def in_hand() -> np.ndarray:
        site = env.task.controller.site
        hand = env.sim.site_xmat[:, site].reshape(-1, 3, 3)
        offset = env.sim.qpos[:, env.task.position] - env.sim.site_xpos[:, site]
        return np.einsum("nji,nj->ni", hand, offset)

    start = in_hand()
    rng = np.random.default_rng(0)
    action = np.full((grasps, 4), -1.0)
    for step in range(round(seconds / env.config.control_dt)):
        if step % 8 == 0:
            direction = rng.normal(size=(grasps, 3))
            action[:, :3] = direction / np.abs(direction).max(axis=1, keepdims=True)
        low = obs["ee_pos"][:, 2] < 0.12
        action[low, 2] = np.abs(action[low, 2])  # the table would push the cube
        obs, _, _, _, info = env.step(action)
    moved = np.linalg.norm(in_hand() - start, axis=1)
    return np.where(info["grasped"], moved, np.inf)


def creep_table(grasps: int, robot: str) -> Table:
    table = Table(title=f"Creep of a held cube in 10 s of fast random motion, {grasps} grasps")
    for column in ("dt (s)", "lost", "median (mm)", "95th percentile (mm)", "largest (mm)"):
        table.add_column(column)
    for dt in (0.002, 0.005):
        moved = creep(grasps, dt, robot)
        held = moved[np.isfinite(moved)] * 1000
        values = (np.median(held), np.percentile(held, 95), held.max())
        table.add_row(f"{dt}", str(grasps - len(held)), *(f"{v:.2f}" for v in values))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--grasps", type=int, default=64)
    parser.add_argument("--robot", default="panda", choices=list_robots())
    parser.add_argument("--tasks", nargs="+", default=[], help="these alone, without the grasps")
    args = parser.parse_args()
    console = Console(width=110)
    if not args.tasks:
        console.print(creep_table(args.grasps, args.robot))
    console.print(success(args.episodes, args.robot, args.tasks))


if __name__ == "__main__":
    main()
