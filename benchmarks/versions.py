"""Compare the speed of this checkout with an older one.

    git worktree add /tmp/before v1.0
    python benchmarks/versions.py /tmp/before [--repeats 7] [--only single ppo]

Each version runs in a process of its own, and the two take turns, so that a machine that slows down does so
for both. A figure is the median of the processor seconds of a workload; the ratio is the median over pairs,
above 1 where this checkout is faster. Both versions must have the public names that the workloads use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parents[1]


def vector_env() -> None:
    """Step 256 environments of pick_place 40 times with random actions."""
    from simscaleai.sim import make_vec_env

    env = make_vec_env("pick_place", 256, num_threads=1)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(40):
        env.step(env.action_space.sample())
    env.close()


def single_env() -> None:
    """Step one environment of pick_place 2,000 times."""
    from simscaleai.sim import make_env

    env = make_env("pick_place")
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(2_000):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    env.close()


def datagen(env_name: str, n_episodes: int, cameras: tuple[str, ...] = ()) -> None:
    """Record demonstrations in this process."""
    from simscaleai.datagen import generate_dataset

    keywords = {"cameras": list(cameras)} if cameras else {}
    with tempfile.TemporaryDirectory() as folder:
        generate_dataset(
            env_name,
            n_episodes,
            f"{folder}/data.h5",
            policy_type="scripted",
            domain_randomization=False,
            show_progress=False,
            **keywords,
        )


def train_bc() -> None:
    """Train `bc` for 1,500 steps on 50 demonstrations of reach."""
    from simscaleai.datagen import generate_dataset
    from simscaleai.tools.cli import main as simscale

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data.h5")
        if not BC_DATA:
            generate_dataset(
                "reach", 50, str(data), "scripted", domain_randomization=False, show_progress=False
            )
            BC_DATA.append(data.read_bytes())
        data.write_bytes(BC_DATA[0])
        flags = f"--dataset {data} --max-steps 1500 --checkpoint-dir {folder}/run --device cpu"
        try:
            simscale(["train", "--model", "bc", *flags.split()])
        except SystemExit as done:
            assert done.code in (0, None), done.code


def train_ppo() -> None:
    """Train PPO on reach for 16,384 steps."""
    from simscaleai.rl.agents.ppo import PPOConfig
    from simscaleai.rl.settings import RLConfig
    from simscaleai.rl.training import train_agent

    with tempfile.TemporaryDirectory() as folder:
        train_agent(
            RLConfig(
                env_name="reach",
                num_envs=128,
                num_threads=1,
                eval_episodes=1,
                save_path=f"{folder}/final.pt",
                show_progress=False,
                use_tensorboard=False,
                ppo=PPOConfig(total_timesteps=16_384),
            )
        )


# The first training in a process makes the data for the later ones.
BC_DATA: list[bytes] = []

WORKLOADS: dict[str, Callable[[], None]] = {
    "vector": vector_env,
    "single": single_env,
    "datagen_reach": lambda: datagen("reach", 1_500),
    "datagen_pick_place": lambda: datagen("pick_place", 250),
    "datagen_images": lambda: datagen("pick_place", 25, ("wrist_cam", "front_cam")),
    "bc": train_bc,
    "ppo": train_ppo,
}


def serve() -> None:
    """Run the workloads named on standard input, and print the processor seconds of each."""
    # Libraries write to standard output; the answers go to a duplicate of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        start = time.process_time()
        WORKLOADS[line.strip()]()
        print(json.dumps(time.process_time() - start), file=answers, flush=True)


class Version:
    """One checkout, in a process that runs workloads on request."""

    def __init__(self, checkout: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(checkout)],
            env=environment,
            cwd=tempfile.mkdtemp(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, workload: str) -> float:
        """Return the processor seconds of one run."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(workload, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{workload} failed in {self.process.args}.")
        return float(json.loads(answer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("before", type=Path, help="checkout of the older version")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()

    before, now = Version(options.before.resolve()), Version(HERE)
    print(
        "| workload | before (CPU s) | now (CPU s) | before / now |\n|---|---|---|---|", flush=True
    )
    for workload in options.only:
        before.run(workload), now.run(workload)  # imports and caches
        pairs = []
        for i in range(options.repeats):
            # Which version goes first alternates, as the second one finds warmer caches.
            order = (before, now) if i % 2 == 0 else (now, before)
            seconds = {version: version.run(workload) for version in order}
            pairs.append((seconds[before], seconds[now]))
        old, new = (median(column) for column in zip(*pairs, strict=True))
        ratio = median(b / n for b, n in pairs)
        print(f"| {workload} | {old:.2f} | {new:.2f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
