"""pick_place from scratch by PPO: the recipe `configs/rl/pick_place.yaml`, three seeds.

    python benchmarks/rl_pick_place.py [--seeds 3] [--steps 4000000] [--to-end] [--threads 1]

Seconds include the recipe's own evaluations; success is that of the deterministic policy in 200 episodes that
neither training nor those evaluations contain. `in physics` is the fraction of the wall time spent in
steps of the simulation.
"""

from __future__ import annotations

from typing import Any

from _rl import arguments, report, run, seeds


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--steps", type=int, help="steps of a run; by default the recipe's")
    parser.add_argument(
        "--to-end",
        action="store_true",
        help="go on when the recipe would stop, to see the whole curve",
    )
    args = parser.parse_args()
    values: dict[str, Any] = {"agent": {"total_timesteps": args.steps}} if args.steps else {}
    if args.to_end:
        values["stop_at_success"] = 2.0
    results = []
    for seed in seeds(args):
        results.append(run("pick_place.yaml", "bench_pick_place", seed, args, **values))
        report("PPO on pick_place, from scratch", results, 0.9)


if __name__ == "__main__":
    main()
