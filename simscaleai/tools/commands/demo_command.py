"""The whole loop in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import app, examples
from simscaleai.tools.commands.options import Env


@app.command(epilog=examples("simscale demo", "simscale demo --env-name reach --output runs/reach"))
def demo(
    env_name: Env = "pick_place",
    n_demonstrations: Annotated[
        int, typer.Option(min=1, help="Episodes of the scripted expert to learn from.")
    ] = 2000,
    max_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 8000,
    n_episodes: Annotated[int, typer.Option(min=1, help="Episodes of the evaluation.")] = 100,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of all results.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Generate demonstrations, clone them, and evaluate the clone on unseen starts."""
    import torch

    from simscaleai.tools.demo import run_demo

    # With two threads, a network this small trains a third faster on an idle machine, but many times slower
    # while another program uses one of two cores: the threads wait for each other at every layer.
    torch.set_num_threads(1)
    run_demo(output, env_name, n_demonstrations, max_steps, n_episodes)
