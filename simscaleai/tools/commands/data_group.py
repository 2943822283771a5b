"""`simscale data`: examine and change datasets that exist; every change is a new file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.errors import UserError
from simscaleai.tools.app import Group, app, examples
from simscaleai.tools.commands.data import Output, Overwrite, ShardEpisodes, check
from simscaleai.tools.commands.options import Dataset, names

data = typer.Typer(
    name="data",
    cls=Group,
    help="Examine and change datasets; every change is a new file.",
    no_args_is_help=True,
)
app.add_typer(data)


@data.command(
    epilog=examples("simscale data relabel data/old.h5 --output data/labeled.h5"),
)
def relabel(
    dataset: Dataset,
    output: Output,
    shard_episodes: ShardEpisodes = None,
    overwrite: Overwrite = False,
) -> None:
    """Add the expert's action for every instruction to a dataset.

    `datagen` records these labels itself. Training with data.relabel learns from them.
    """
    from simscaleai.datagen import relabel_dataset
    from simscaleai.tools.console import results

    results(
        "Relabeled",
        relabel_dataset(dataset, output, shard_episodes=shard_episodes, overwrite=overwrite),
    )
    check(output)


@data.command(epilog=examples("simscale data info data/reach.h5"))
def info(dataset: Dataset) -> None:
    """Describe a dataset without reading its episodes."""
    from simscaleai.datagen import dataset_info
    from simscaleai.tools.console import results

    results("Dataset", dataset_info(dataset))


@data.command(
    epilog=examples(
        "simscale data merge data/a.h5 data/b.h5 --output data/both.h5",
        "simscale data merge data/big data/more --shard-episodes 1000 --output data/all",
    )
)
def merge(
    datasets: Annotated[list[Path], typer.Argument(metavar="DATASET", help="Two or more.")],
    output: Output,
    shard_episodes: ShardEpisodes = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the episodes of several datasets of one environment to one dataset, each once."""
    from simscaleai.datagen import merge_datasets
    from simscaleai.tools.console import results

    results(
        "Merged",
        merge_datasets(datasets, output, shard_episodes=shard_episodes, overwrite=overwrite),
    )


@data.command(
    "filter",
    epilog=examples(
        "simscale data filter data/all.h5 --success --max-length 100 --output data/good.h5",
        "simscale data filter data/all.h5 --instruction '*red*' --output data/red.h5",
        "simscale data filter data/all.h5 --stage missed_grasp --output data/slips.h5",
    ),
)
def filter_(
    dataset: Dataset,
    output: Output,
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="How the episodes ended.")
    ] = None,
    min_length: Annotated[int | None, typer.Option(min=0, help="Steps, at least.")] = None,
    max_length: Annotated[int | None, typer.Option(min=0, help="Steps, at most.")] = None,
    instruction: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Instruction, with the wildcards * and ?.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="Stage of the task at which a failed episode ended.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="Seeds of the episodes.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, valid or another mask.")] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Take the episodes that do not fit.")
    ] = False,
    shard_episodes: ShardEpisodes = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the episodes that meet all conditions."""
    from simscaleai.datagen import filter_dataset
    from simscaleai.tools.console import results

    result = filter_dataset(
        dataset,
        output,
        success=success,
        min_length=min_length,
        max_length=max_length,
        instruction=instruction,
        stage=stage,
        seeds=None if seeds is None else _range(seeds),
        split=split,
        invert=invert,
        shard_episodes=shard_episodes,
        overwrite=overwrite,
    )
    results("Filtered", result)


def _range(text: str) -> tuple[int, int]:
    # `int` alone would take " 1_0" and "-5"
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal()):
        raise UserError(f"--seeds {text!r} is no range; write FIRST:LAST, such as 0:99.")
    return int(first), int(last)


@data.command(
    epilog=examples(
        "simscale data split data/all.h5 --valid 0.2 --output data/split.h5",
        "simscale data split data/all.h5 --by instruction --output data/held_out.h5",
    )
)
def split(
    dataset: Dataset,
    output: Output,
    valid: Annotated[float, typer.Option(min=0, help="Fraction for validation.")] = 0.1,
    by: Annotated[
        str, typer.Option(help="episode, or instruction to hold whole instructions out.")
    ] = "episode",
    seed: Annotated[int, typer.Option(min=0, help="Decides which ones.")] = 0,
    shard_episodes: ShardEpisodes = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a dataset with another split into training and validation."""
    from simscaleai.datagen import split_dataset
    from simscaleai.tools.console import results

    result = split_dataset(
        dataset,
        output,
        valid_fraction=valid,
        by=by,
        seed=seed,
        shard_episodes=shard_episodes,
        overwrite=overwrite,
    )
    results("Split", result)


@data.command(
    epilog=examples(
        "simscale data edit data/all.h5 --drop-obs images/wrist_cam --output data/small.h5",
        "simscale data edit data/all.h5 --instruction 'reach=touch the ball' --output data/new.h5",
    )
)
def edit(
    dataset: Dataset,
    output: Output,
    instruction: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Another sentence for an instruction; repeatable."),
    ] = None,
    drop_obs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help="Observations to leave out, such as target_pos; may be repeated.",
        ),
    ] = None,
    shard_episodes: ShardEpisodes = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a dataset with other instructions, or with fewer observations."""
    from simscaleai.datagen import edit_dataset
    from simscaleai.tools.console import results

    pairs = dict[str, str]()
    for text in instruction or ():
        # at the first sign: a new sentence may hold another
        old, sign, new = text.partition("=")
        if not sign:
            raise UserError(f"--instruction {text!r} has no =; write OLD=NEW.")
        pairs[old] = new
    result = edit_dataset(
        dataset,
        output,
        instructions=pairs,
        drop_obs=names(drop_obs),
        shard_episodes=shard_episodes,
        overwrite=overwrite,
    )
    results("Edited", result)


@data.command(epilog=examples("simscale data repair data/damaged.h5 --output data/sound.h5"))
def repair(
    dataset: Dataset,
    output: Output,
    shard_episodes: ShardEpisodes = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the sound episodes of a damaged dataset, with true totals, splits and hashes."""
    from simscaleai.datagen import repair_dataset
    from simscaleai.tools.console import results

    # the copy is checked, since what was damaged may be more than was found
    results(
        "Repaired",
        repair_dataset(dataset, output, shard_episodes=shard_episodes, overwrite=overwrite),
    )
    check(output)
