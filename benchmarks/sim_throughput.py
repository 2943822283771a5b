"""What the environments cost over the simulator underneath them.

    python benchmarks/sim_throughput.py [--seconds 3] [--repeats 5]

For each task and timestep: control steps per second of the vector environment (observations, reward,
autoreset; random actions) against a bare `mujoco.batch.Batch` that is fed the controls which that
environment computed, from the same states; and of the single environment against bare `mj_step` on one
thread in the same way. Both sides run in turn within each repeat; the ratio is the median over repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import mujoco
import numpy as np
from mujoco.batch import Batch
from rich.console import Console
from rich.table import Table

from simscaleai.sim import make_env, make_vec_env


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def vector(name: str, dt: float, num_envs: int, seconds: float, repeats: int) -> tuple[float, ...]:
    """(environment steps/s, bare steps/s, median ratio)."""
    env = make_vec_env(name, num_envs, dt=dt)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    took = timed(lambda: env.step(np.zeros((num_envs, 4))))
    steps = max(3, int(seconds / repeats / max(took, 1e-4)))
    actions = rng.uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)
    bare = Batch(env.model, num_envs, 0)
    ctrl = bare.bind("ctrl")
    recorded = np.empty((steps, *env.sim.ctrl.shape))

    def run_env() -> None:
        for action in actions:
            env.step(action)

    def run_bare() -> None:
        for values in recorded:
            ctrl[:] = values
            bare.step(nstep=env.substeps)

    env.reset(seed=0)
    start = env.sim.batch.state.copy()
    for k, action in enumerate(actions):
        env.step(action)
        recorded[k] = env.sim.ctrl
    measured = []
    for _ in range(repeats):
        env.reset(seed=0)
        bare.state[:] = start
        measured.append((timed(run_env), timed(run_bare)))
    return _rates(measured, steps * num_envs)


def single(name: str, dt: float, seconds: float, repeats: int) -> tuple[float, ...]:
    """(environment steps/s, bare steps/s, median ratio)."""
    env = make_env(name, cameras=[], dt=dt, max_episode_steps=200)
    steps = max(20, int(seconds / repeats / 4e-4))
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 4)).astype(np.float32)
    data = mujoco.MjData(env.model)
    spec = int(mujoco.mjtState.mjSTATE_INTEGRATION)
    recorded: list[tuple[np.ndarray | None, np.ndarray]] = []

    def run_env() -> None:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    def run_bare() -> None:
        for state, values in recorded:
            if state is not None:
                mujoco.mj_setState(env.model, data, state, spec)
            data.ctrl[:] = values
            mujoco.mj_step(env.model, data, env.substeps)

    def record() -> None:
        state: np.ndarray | None = np.empty(mujoco.mj_stateSize(env.model, spec))
        mujoco.mj_getState(env.model, env.data, state, spec)
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            recorded.append((state, env.data.ctrl.copy()))
            state = None
            if terminated or truncated:
                env.reset()
                state = np.empty(mujoco.mj_stateSize(env.model, spec))
                mujoco.mj_getState(env.model, env.data, state, spec)

    env.reset(seed=0)
    record()
    measured = []
    for _ in range(repeats):
        env.reset(seed=0)
        measured.append((timed(run_env), timed(run_bare)))
    return _rates(measured, steps)


def _rates(measured: list[tuple[float, float]], steps: int) -> tuple[float, ...]:
    env, bare = (statistics.median(side) for side in zip(*measured, strict=True))
    return steps / env, steps / bare, statistics.median(b / e for e, b in measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row and side, about")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[16, 64, 256, 1024])
    args = parser.parse_args()
    table = Table(title="Control steps per second")
    for column in ("task", "dt (s)", "environment", "ours", "bare MuJoCo", "ratio"):
        table.add_column(column, justify="left" if column in ("task", "environment") else "right")
    for name in ("reach", "pick_place"):
        for dt in (0.002, 0.005):
            rows = [("single, 1 thread", single(name, dt, args.seconds, args.repeats))]
            for n in args.num_envs:
                rates = vector(name, dt, n, args.seconds, args.repeats)
                rows.append((f"vector, {n}", rates))
            for label, (ours, bare, ratio) in rows:
                table.add_row(name, f"{dt}", label, f"{ours:,.0f}", f"{bare:,.0f}", f"{ratio:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
