"""Datasets: generate and check them."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import RandomizeCommand, app, echo, examples
from simscaleai.tools.commands.options import (
    CameraPoses,
    Cameras,
    Dataset,
    Depth,
    Env,
    EnvSettings,
    Executor,
    ImageSize,
    Randomize,
    RobotName,
    Segmentation,
    Workers,
    env_settings,
    names,
)

SwitchInstructions = Annotated[
    bool,
    typer.Option(
        "--switch-instructions",
        help="With the expert's labels: give the policy another instruction at the start of each episode.",
    ),
]
# Other commands that write datasets have these too.
Resume = Annotated[bool, typer.Option("--resume", help="Finish an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
# every tool takes it: one that changed its input could lose the only copy
Output = Annotated[
    Path, typer.Option("--output", "-o", help="HDF5 file, or folder of shards, to write.")
]
ShardEpisodes = Annotated[
    int | None,
    typer.Option(min=1, help="Write a folder of shards with so many episodes each."),
]


@app.command(
    cls=RandomizeCommand,
    epilog=examples(
        "simscale datagen --env-name reach --n-episodes 100 --output data/reach.h5",
        "simscale datagen --env-name pick_place --n-episodes 1000 --randomize --only-success",
        "simscale datagen --n-episodes 50 --policy checkpoints/final.pt --output data/rollouts.h5",
        "simscale datagen --n-episodes 100000 --workers 8 --output data/big.h5 --resume",
        "simscale datagen --cameras wrist_cam,front_cam --image-size 64 --output data/images.h5",
        "simscale datagen --cameras side:96x72 --camera-pose side:1,0.8,0.6:0.4,0,0.1 --env dt=0.004",
        "simscale datagen --n-episodes 100000 --shard-episodes 1000 --workers 8 --output data/big",
    ),
)
def datagen(
    env_name: Env = "reach",
    n_episodes: Annotated[int, typer.Option(min=1, help="Number of episodes to record.")] = 100,
    output: Annotated[
        str, typer.Option("--output", "-o", help="HDF5 file, or folder of shards, to write.")
    ] = "data/dataset.h5",
    policy: Annotated[
        str,
        typer.Option(
            help="scripted (the expert), random, a checkpoint, a run, or module:function."
        ),
    ] = "scripted",
    robot: RobotName = None,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    randomize: Randomize = None,
    only_success: Annotated[
        bool, typer.Option("--only-success", help="Record successful episodes only.")
    ] = False,
    noise: Annotated[
        float,
        typer.Option(
            min=0,
            help="Standard deviation of noise on executed actions; recorded actions stay clean.",
        ),
    ] = 0.0,
    max_steps: Annotated[
        int, typer.Option(min=1, help="Steps after which an episode is truncated.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every episode.")] = 42,
    workers: Workers = 1,
    shard_episodes: ShardEpisodes = None,
    executor: Executor = None,
    num_envs: Annotated[
        int, typer.Option(min=1, help="Environments that each process steps at once.")
    ] = 256,
    cameras: Cameras = None,
    image_size: ImageSize = 64,
    depth: Depth = False,
    segmentation: Segmentation = False,
    next_obs: Annotated[
        bool, typer.Option("--next-obs", help="Also record the observation after each action.")
    ] = False,
    states_only: Annotated[
        bool,
        typer.Option(
            "--states-only",
            help="Draw no images; note --cameras, which training draws (data.render).",
        ),
    ] = False,
    expert_labels: Annotated[
        bool,
        typer.Option(
            "--expert-labels",
            help="Record what the expert would do in each state, while --policy acts; see `simscale dagger`.",
        ),
    ] = False,
    switch_instructions: SwitchInstructions = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate demonstrations."""
    from simscaleai.datagen import generate_dataset
    from simscaleai.tools.console import finish, results

    start = time.perf_counter()

    settings = env_settings(env, camera_pose)
    result = generate_dataset(
        env_name,
        n_episodes,
        output,
        policy,
        domain_randomization=randomize is not None,  # the level implies the switch
        randomize=randomize,
        # --env max_episode_steps=N and --max-steps N mean the same limit
        max_steps=settings.pop("max_episode_steps", max_steps),
        seed=seed,
        only_success=only_success,
        noise=noise,
        workers=workers,
        num_envs=num_envs,
        cameras=names(cameras),
        image_size=image_size,
        depth=depth,
        segmentation=segmentation,
        next_obs=next_obs,
        robot=robot,
        env_kwargs=settings,
        resume=resume,
        overwrite=overwrite,
        shard_episodes=shard_episodes,
        executor=executor,
        states_only=states_only,
        expert_labels=expert_labels,
        switch_instructions=switch_instructions,
    )
    results("Dataset", result)
    # what was written is read back at once: an error shows before hours of training
    _check_new(Path(output), shard_episodes)
    finish(time.perf_counter() - start, shlex.join(["simscale", "train", "--dataset", str(output)]))


@app.command(
    cls=RandomizeCommand,
    epilog=examples(
        "simscale render data/reach.h5 --cameras front_cam --output data/images.h5",
        "simscale render data/reach.h5 --cameras wrist_cam,front_cam --image-size 128 --depth -o new.h5",
        "simscale render data/big.h5 --cameras front_cam --output data/images.h5 --resume",
        "simscale render data/big --cameras front_cam --shard-episodes 1000 --workers 8 -o data/images",
    ),
)
def render(
    dataset: Dataset,
    output: Output,
    cameras: Cameras,
    image_size: ImageSize = 64,
    depth: Depth = False,
    segmentation: Segmentation = False,
    randomize: Randomize = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the randomized appearance.")] = 0,
    engine: Annotated[str, typer.Option(help="Render engine: auto, warp or gl.")] = "auto",
    workers: Workers = 1,
    shard_episodes: ShardEpisodes = None,
    executor: Executor = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Render the images of recorded episodes again, without simulating.

    The scene looks as it was recorded; with --randomize, every episode gets its own colors and lights.
    """
    from simscaleai.datagen import render_dataset
    from simscaleai.tools.console import results

    result = render_dataset(
        dataset,
        output,
        names(cameras),
        image_size,
        depth=depth,
        segmentation=segmentation,
        randomize=randomize,
        seed=seed,
        engine=engine,
        workers=workers,
        executor=executor,
        resume=resume,
        overwrite=overwrite,
        shard_episodes=shard_episodes,
    )
    results("Rendered", result)
    # images of a broken driver are black, which the check finds
    _check_new(output, shard_episodes)


@app.command(epilog=examples("simscale validate data/reach.h5"))
def validate(
    dataset: Dataset,
) -> None:
    """Check a dataset; exit code 1 if it has errors."""
    check(dataset)


def _check_new(output: Path, shard_episodes: int | None) -> None:
    """Check a dataset that was written; of a folder say how, since reading a large one takes long."""
    if shard_episodes is None:
        check(output)
    else:
        echo(f"Check it with: simscale validate {output}")


def check(dataset: Path) -> None:
    """Print what `validate_dataset` finds; exit code 1 if there are errors."""
    from simscaleai.datagen import validate_dataset
    from simscaleai.tools.console import table

    report = validate_dataset(dataset)
    known = report.episodes - report.unknown_successes
    success = f"{report.successes} successful" if known else "success not recorded"
    found = f"{report.episodes} episodes, {report.steps} steps, {success}"
    rows = [("content", found), ("hash", report.content_hash or "none")]
    # by severity: what is shown first is to be mended first
    rows += [("error", sentence) for sentence in report.errors]
    rows += [("warning", sentence) for sentence in report.warnings]
    rows += [("finding", str(finding)) for finding in report.findings]
    rows += [("verdict", "good" if report.ok else "not fit for training")]
    table(f"Check of {dataset}", ["", "found"], rows)
    if not report.ok:
        # after the table, and without a message: 1 is for findings, 2 for wrong input
        raise typer.Exit(1)
