"""Samples per second of one process and of several, at the same global batch.

    python benchmarks/scaling.py [--processes 1 2] [--strategies ddp fsdp2] [--steps 60] [--repeats 3]
    python benchmarks/scaling.py --processes 1 2 4 8 --device cuda --batch-size 4096 --hidden 4096

Every row is `simscale train` under `torchrun`, as a user starts it, on made-up data in memory, one CPU thread
for each process; samples/s is what the run itself records, as the median over its records without the first.
Settings take turns, and the best of the repeats counts, so that a busy machine harms all alike. Efficiency is
samples/s over processes times that of one process by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

RECORDS = 6  # of a run; the first one holds the warmup


def samples_per_second(
    args: argparse.Namespace, processes: int, strategy: str | None, folder: Path
) -> float:
    """One run; without a strategy it is not started by torchrun."""
    command = [sys.executable]
    if strategy is not None:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "simscaleai.tools.cli", "train", f"--max-steps={args.steps}"]
    command += [f"--batch-size={args.batch_size}", f"--device={args.device}"]
    command += [f"--checkpoint-dir={folder}", f"trainer.strategy={strategy or 'ddp'}"]
    command += [f"model.hidden_dim={args.hidden}", f"model.n_layers={args.layers}"]
    command += [f"log.log_every={args.steps // RECORDS}", "log.show_progress=false"]
    command += ["trainer.eval_every=0", "trainer.save_every=0", "trainer.use_tensorboard=false"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rates = [record.get("samples_per_second") for record in map(json.loads, lines)]
    return median([rate for rate in rates if rate is not None][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--strategies", nargs="+", default=["ddp", "fsdp2"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=512, help="over all processes")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the network")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    settings: list[tuple[int, str | None]] = [(1, None)]
    settings += [(n, s) for s in args.strategies for n in args.processes]
    rates: dict[tuple[int, str | None], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats):
            for setting in settings:
                place = Path(folder) / f"{repeat}-{setting[0]}-{setting[1]}"
                rate = samples_per_second(args, *setting, place)
                rates[setting] = max(rate, rates.get(setting, 0.0))
    title = f"BC of {args.layers} x {args.hidden} on {args.device}, global batch {args.batch_size}"
    table = Table(title=title)
    for heading in ("processes", "strategy", "samples/s", "ms/step", "speedup", "efficiency"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    alone = rates[1, None]
    for (processes, strategy), rate in rates.items():
        table.add_row(
            str(processes),
            strategy or "none",
            f"{rate:,.0f}",
            f"{1000 * args.batch_size / rate:.1f}",
            f"{rate / alone:.2f}",
            f"{rate / alone / processes:.2f}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
