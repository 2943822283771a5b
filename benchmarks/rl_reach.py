"""reach from scratch by PPO: wall-clock and success of the recipe `configs/rl/reach.yaml`, three seeds.

    python benchmarks/rl_reach.py [--seeds 3]

Seconds include the recipe's own evaluations; success is that of the deterministic policy in 200 episodes that
neither training nor those evaluations contain.
"""

from __future__ import annotations

from _rl import arguments, report, run, seeds


def main() -> None:
    args = arguments(__doc__ or "").parse_args()
    results = [run("reach.yaml", "bench_reach", seed, args) for seed in seeds(args)]
    report("PPO on reach, from scratch", results, 0.99)


if __name__ == "__main__":
    main()
