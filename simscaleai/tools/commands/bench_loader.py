"""Loading speed of a dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from simscaleai.tools.app import app, examples
from simscaleai.tools.commands.options import Dataset


@app.command(
    "bench-loader",
    epilog=examples(
        "simscale bench-loader data/reach.h5",
        "simscale bench-loader data/images.h5 --batch-size 64 --num-workers 4 --cache-mb 0",
    ),
)
def bench_loader(
    dataset: Dataset,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per batch.")] = 256,
    num_workers: Annotated[
        int, typer.Option(min=0, help="Worker processes that read the file.")
    ] = 0,
    seq_len: Annotated[int, typer.Option(min=1, help="Actions per sample.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds to measure each loader.")] = 3.0,
    cache_mb: Annotated[
        float | None,
        typer.Option(min=0, help="MiB of memory for cached images; default: what is available."),
    ] = None,
) -> None:
    """Measure the loading speed, compared with a loader that reads sample by sample."""
    from simscaleai.tools.console import table
    from simscaleai.training.data import bench

    speeds = bench.bench_loader(dataset, batch_size, num_workers, seq_len, seconds, cache_mb)
    slowest = speeds[-1].samples_per_second  # the loader without any of our means, for comparison
    rows = [
        (
            speed.name,
            f"{speed.samples_per_second:,.0f}",
            f"{speed.megabytes_per_second:,.1f}",
            f"{1000 * speed.first_batch_seconds:,.0f}",  # ms; workers must start first
            f"{speed.samples_per_second / slowest:.1f} x",
        )
        for speed in speeds
    ]
    columns = ["loader", "samples/s", "MB/s", "first batch, ms", "speed"]
    table(f"Batches of {batch_size} from {dataset}", columns, rows)
