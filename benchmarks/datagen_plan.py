"""What an episode of pick_place costs in CPU seconds and bytes, and from that a plan for a million of them.

    python benchmarks/datagen_plan.py [--episodes 50]     # measure, and print the tables
    python benchmarks/datagen_plan.py --write             # also put the tables into docs/datasets.md

Measured on one core (`time.process_time`, one thread, after a first run that compiles the render kernels), in
shards as `simscale datagen --shard-episodes` writes them, with and without two 128-pixel cameras; then both
kinds of LeRobot exports of the latter. The plan multiplies; `Plan` has what is assumed. The measurement is
kept in benchmarks/results/datagen-plan.json, and `tests/test_datagen_plan.py` compares the page with it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before libraries read it

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "datagen-plan.json"
PAGE = ROOT / "docs" / "datasets.md"
CAMERAS = ("wrist_cam", "front_cam")
IMAGE_SIZE = 128
FORMS = {
    "states": "states only, in shards",
    "images": "two cameras of 128x128 pixels, in shards",
    "png": "the same as LeRobot folder, PNG",
    "video": "the same as LeRobot folder, H.264",
}

Measured = dict[str, dict[str, float]]
"""{form: {"seconds" (CPU), "bytes", "steps", "episodes"}} of all episodes together."""


@dataclass(frozen=True)
class Plan:
    """What is assumed; the page says so."""

    episodes: int = 1_000_000
    shard_episodes: int = 1000
    cores: int = 512  # 8 machines of 64 cores
    core_hour: float = 0.04  # $
    gigabyte_month: float = 0.023  # $, object storage


def size(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds of `work`, of all threads of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(episodes: int, folder: Path) -> Measured:
    """Measure every form."""
    from simscaleai.datagen import export_dataset, generate_dataset

    def generate(name: str, n: int, cameras: tuple[str, ...]) -> dict[str, float]:
        result = generate_dataset(
            "pick_place",
            n,
            str(folder / name),
            "scripted",
            domain_randomization=False,
            cameras=cameras,
            image_size=IMAGE_SIZE,
            shard_episodes=n,
            env_kwargs={"render_engine": "warp"},
            show_progress=False,
        )
        return {"steps": result["total_steps"]}

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core: nothing runs beside it
    found: Measured = {}
    for name, cameras in (("states", ()), ("images", CAMERAS)):
        generate(f"{name}_first", 2, cameras)
        about: dict[str, float] = {}
        seconds = timed(lambda: about.update(generate(name, episodes, cameras)))  # noqa: B023
        found[name] = about | {"seconds": seconds, "bytes": size(folder / name)}
    for name, video in (("png", False), ("video", True)):
        target = folder / name

        def export() -> None:
            export_dataset(folder / "images", target, video=video, show_progress=False)  # noqa: B023

        found[name] = {"seconds": timed(export), "bytes": size(target)}
    return {name: {**values, "episodes": episodes} for name, values in found.items()}


def short(value: float) -> str:
    """Return a number with about three digits, and without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def amount(nbytes: float) -> str:
    """Return bytes in decimal units with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{short(nbytes)} {unit}"
        nbytes /= 1000
    return f"{short(nbytes)} TB"


def tables(measured: Measured, plan: Plan) -> dict[str, str]:
    """Return {name of the table: Markdown}."""
    head = ["| form | CPU ms per episode | bytes per episode |", "|---|---|---|"]
    for name, label in FORMS.items():
        one = {k: v / measured[name]["episodes"] for k, v in measured[name].items()}
        # the encoder of videos is a process of its own, whose seconds are not measured
        cost = "not measured" if name == "video" else short(1000 * one["seconds"])
        head.append(f"| {label} | {cost} | {amount(one['bytes'])} |")
    rows = ["| | states only | two cameras |", "|---|---|---|"]
    columns = [_column(measured[name], plan) for name in ("states", "images")]
    rows += [
        "| " + " | ".join([key, *(column[key] for column in columns)]) + " |" for key in columns[0]
    ]
    return {"sizes": "\n".join(head), "million": "\n".join(rows)}


def _column(measured: dict[str, float], plan: Plan) -> dict[str, str]:
    """Return {what: arithmetic and result} of one form."""
    seconds = measured["seconds"] / measured["episodes"]
    nbytes = measured["bytes"] / measured["episodes"]
    hours, total = plan.episodes * seconds / 3600, plan.episodes * nbytes
    count = f"{plan.episodes:,}"
    machine, size_text = hours / plan.cores, amount(total)
    cost, storage = hours * plan.core_hour, total / 1e9 * plan.gigabyte_month
    shard = plan.shard_episodes
    return {
        "core-hours": f"{count} x {short(seconds)} s / 3600 = {short(hours)}",
        f"time on {plan.cores} cores": f"{short(hours)} h / {plan.cores} = {short(60 * machine)} min",
        f"one shard of {shard:,} episodes": (
            f"{short(shard * seconds / 60)} min, {amount(shard * nbytes)}"
        ),
        "bytes": f"{count} x {amount(nbytes)} = {size_text}",
        "computing": f"{short(hours)} h x {plan.core_hour} $ = {short(cost)} $",
        "storage for a month": f"{size_text} x {plan.gigabyte_month} $/GB = {short(storage)} $",
    }


def write(found: dict[str, str]) -> None:
    """Put the tables between their marks in the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in found.items():
        start, end = f"<!-- measured: {name} -->\n\n", f"\n\n<!-- /measured: {name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = before + start + table + end + after
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=50, help="to measure")
    parser.add_argument("--write", action="store_true", help="result and tables")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(args.episodes, Path(folder))
    found = tables(measured, Plan())
    print(*found.values(), sep="\n\n")
    if args.write:
        about = {"machine": platform.machine(), "load": os.getloadavg()[0], "measured": measured}
        RESULTS.write_text(json.dumps(about, indent=2) + "\n")
        write(found)


if __name__ == "__main__":
    main()
