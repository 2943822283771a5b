"""Export of datasets and policies to the formats of other projects, and import from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.errors import UserError
from simscaleai.tools.app import app, examples
from simscaleai.tools.commands.data import Output, Overwrite, ShardEpisodes, check

# of `models.export`, whose import takes seconds
POLICY_FORMATS = ("onnx", "torch-export")


@app.command(
    epilog=examples(
        "simscale export data/reach.h5 --format lerobot --output data/reach_lerobot",
        "simscale export data/images.h5 --format lerobot --video --output data/videos",
        "simscale export data/reach.h5 --format zarr --output data/reach.zarr",
        "simscale export runs/a/final.pt --format onnx --output a.onnx",
        "simscale export runs/a --format torch-export --output a.pt2",
    ),
)
def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Dataset; or a checkpoint, or the folder or name of a run.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write, or file of a policy.")
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Of a dataset lerobot (version 3.0, the default) or zarr, of a policy onnx (the default) or"
            " torch-export.",
        ),
    ] = None,
    instruction: Annotated[
        str, typer.Option(help="What an exported policy shall do, if it reads instructions.")
    ] = "",
    video: Annotated[
        bool, typer.Option("--video", help="Store images as H.264: smaller, but pixels change.")
    ] = False,
    subtasks: Annotated[
        bool,
        typer.Option(
            "--subtasks",
            help="Write the stages of the task as subtasks; for lerobot 0.6 and later.",
        ),
    ] = False,
    fps: Annotated[
        int | None,
        typer.Option(min=1, help="Frames per second, if the dataset does not record it."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a dataset in the format of another project, or a policy for another runtime.

    An exported policy has its normalization inside, and is compared with the policy before it is written.
    """
    # the source decides; a policy of another runtime is asked for by name
    kind = format or ("lerobot" if _is_dataset(source) else "onnx")
    if kind in POLICY_FORMATS:
        # a flag that would be ignored is refused: it shows that another kind was meant
        if video or subtasks or fps is not None:
            raise UserError(
                f"--video, --subtasks and --fps are for datasets, and {kind} for policies."
            )
        _export_policy(str(source), output, kind, instruction, overwrite)
        return
    if instruction:
        raise UserError(f"--instruction is for policies, and {kind} for datasets; leave it out.")
    from simscaleai.datagen import export_dataset
    from simscaleai.tools.console import results

    result = export_dataset(
        source,
        output,
        kind,
        video=video,
        subtasks=subtasks,
        fps=fps,
        overwrite=overwrite,
    )
    results("Exported", result)


def _is_dataset(path: Path) -> bool:
    """Return whether a path looks like a dataset, and not like a checkpoint or a run."""
    from simscaleai.storage.manifest import NAME

    # by name and not by content: a path that is misspelled is named by what reads it
    return path.suffix in (".h5", ".hdf5") or (path / NAME).is_file()


def _export_policy(
    checkpoint: str, output: Path, kind: str, instruction: str, overwrite: bool
) -> None:
    """Write a policy and print what was written."""
    from simscaleai.models.export import export_policy
    from simscaleai.models.policy import ModelPolicy
    from simscaleai.storage.find_checkpoint import checkpoint_sha256, find_checkpoint
    from simscaleai.tools.console import results

    path = find_checkpoint(checkpoint)
    # on the CPU, where the exported file is compared with it
    policy = ModelPolicy.from_checkpoint(path, "cpu")
    found = export_policy(policy, output, kind, instruction, overwrite, checkpoint_sha256(path))
    results(
        "Exported",
        {
            "policy": str(path),
            "file": str(found.path),
            "description": str(found.description),
            "largest difference": f"{found.max_difference:.1e}",
        },
    )


@app.command(
    "import", epilog=examples("simscale import data/reach_lerobot --output data/imported.h5")
)
def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="LeRobot dataset of version 3.")],
    output: Output,
    shard_episodes: ShardEpisodes = None,
    overwrite: Overwrite = False,
) -> None:
    """Read a LeRobot dataset into a dataset of ours."""
    from simscaleai.datagen import import_dataset
    from simscaleai.tools.console import results

    # data of another program: what training would refuse is shown now
    results(
        "Imported",
        import_dataset(folder, output, shard_episodes=shard_episodes, overwrite=overwrite),
    )
    check(output)
