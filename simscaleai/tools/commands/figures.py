"""Figures and videos of environments, datasets, runs and policies."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simscaleai.errors import UserError
from simscaleai.tools.app import RandomizeCommand, app, echo, examples
from simscaleai.tools.commands.options import (
    CameraPoses,
    Cameras,
    Dataset,
    Env,
    EnvSettings,
    Instruction,
    Randomize,
    RobotName,
    env_settings,
    names,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Options of several commands; `options.py` has those that other commands have as well.
# The suffix decides the format, so that there is no second option for it.
Save = Annotated[
    Path | None,
    typer.Option(help="File to write: png, pdf, svg, ...; without it, a window opens."),
]
# None and not "reach": a checkpoint knows its environment.
AnyEnv = Annotated[
    str | None, typer.Option(help="Environment; default: that of the checkpoint, or reach.")
]
Policy = Annotated[
    str,
    typer.Option(
        help="scripted (the expert), random, a checkpoint, a run, module:function or ws://HOST:PORT."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the episodes.")]
Size = Annotated[int, typer.Option(min=16, max=2048, help="Height and width of images in pixels.")]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Control steps; default: until the episodes end.")
]
Camera = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:WxH[:FOV]]",
        help="Camera, such as front_cam:640x360; default: one that shows hand, object and goal.",
    ),
]
Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...",
        help="Folder of a run, or its name in runs/; several, or a folder of runs such as a sweep, are drawn"
        " as means over their seeds.",
    ),
]


@app.command(
    "viz-env",
    cls=RandomizeCommand,
    epilog=examples(
        "simscale viz-env --env-name reach --n-steps 20 --save env_grid.png",
        "simscale viz-env --env-name pick_place --randomize heavy --save heavy.png",
        "simscale viz-env --policy checkpoints/final.pt --camera front_cam --save policy.pdf",
        "simscale viz-env --policy checkpoints/final.pt --episode 17 --save failed.png",
    ),
)
def viz_env(
    env_name: AnyEnv = None,
    n_steps: Steps = None,
    save: Save = None,
    policy: Policy = "scripted",
    robot: RobotName = None,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    camera: Camera = None,
    seed: Seed = 0,
    episode: Annotated[
        int,
        typer.Option(min=0, help="Number of the episode, as in the results of `simscale eval`."),
    ] = 0,
    randomize: Randomize = None,
    instruction: Instruction = None,
    size: Size = 256,
) -> None:
    """Draw a rollout as a grid of images over time."""
    from simscaleai.tools import visualize

    _make(
        save,
        lambda: visualize.plot_env(
            env_name,
            n_steps,
            policy,
            camera=camera,
            seed=seed,
            randomize=randomize,
            size=size,
            robot=robot,
            episode=episode,
            env_kwargs=env_settings(env, camera_pose),
            instruction=instruction,
        ),
    )


@app.command(
    "viz-cameras",
    cls=RandomizeCommand,
    epilog=examples(
        "simscale viz-cameras --env-name reach --save cameras.png",
        "simscale viz-cameras --env-name pick_place --cameras wrist_cam --n-steps 0 --save wrist.png",
        "simscale viz-cameras --cameras side:96x72 --camera-pose side:1,0.8,0.6:0.4,0,0.1 --save side.png",
    ),
)
def viz_cameras(
    env_name: Env = "reach",
    save: Save = None,
    cameras: Cameras = None,
    n_steps: Annotated[
        int, typer.Option(min=0, help="Control steps of the expert before rendering.")
    ] = 12,
    robot: RobotName = "panda",
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    seed: Seed = 0,
    randomize: Randomize = None,
    size: Size = 256,
) -> None:
    """Draw RGB, depth and segmentation of each camera."""
    from simscaleai.tools import visualize

    _make(
        save,
        lambda: visualize.plot_cameras(
            env_name,
            names(cameras),
            n_steps,
            seed=seed,
            randomize=randomize,
            size=size,
            robot=robot or "panda",
            env_kwargs=env_settings(env, camera_pose),
        ),
    )


@app.command(
    "viz-dataset",
    epilog=examples(
        "simscale viz-dataset data/reach.h5 --save dataset_stats.png",
        "simscale viz-dataset data/reach.h5 --html --episodes 100 --save reach.html",
    ),
)
def viz_dataset(
    dataset: Dataset,
    save: Save = None,
    html: Annotated[
        bool,
        typer.Option(
            "--html",
            help="Write a page of episodes that play, with filters; default file: dataset.html.",
        ),
    ] = False,
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="Number of episodes on the page of --html; default: 48."
        ),
    ] = None,
) -> None:
    """Draw lengths, rewards and actions of a dataset, or write a page to browse its episodes."""
    from simscaleai.tools import visualize

    if not html:
        if episodes is not None:
            raise UserError("--episodes is the number of episodes on a page; give --html as well.")
        _make(save, lambda: visualize.plot_dataset(dataset))
        return
    from simscaleai.tools.report.dataset_page import EPISODES, write_dataset_page

    path = save or Path("dataset.html")
    number = episodes or EPISODES
    words = ["simscale", "viz-dataset", str(dataset), "--html", "--episodes", str(number)]
    count = write_dataset_page(dataset, path, number, shlex.join([*words, "--save", str(path)]))
    echo(f"Wrote {path} with {count} episodes; open it in a browser.")


@app.command(
    "viz-trajectory",
    epilog=examples("simscale viz-trajectory data/reach.h5 --episode 0 --save trajectory.png"),
)
def viz_trajectory(
    dataset: Dataset,
    episode: Annotated[int, typer.Option(min=0, help="Index of the episode, from 0.")] = 0,
    save: Save = None,
) -> None:
    """Draw observations, actions and rewards of an episode over time."""
    from simscaleai.tools import visualize

    _make(save, lambda: visualize.plot_trajectory(dataset, episode))


@app.command(
    "viz-training",
    epilog=examples(
        "simscale viz-training runs/pick_place --save training.png",
        "simscale viz-training runs/a runs/b --save both.png",
        "simscale viz-training runs/sweep --save sweep.png",
    ),
)
def viz_training(runs: Runs, save: Save = None) -> None:
    """Draw the curves of training runs."""
    from simscaleai.tools import visualize

    _make(save, lambda: visualize.plot_training_runs(runs))


@app.command(
    "viz-rl",
    epilog=examples(
        "simscale viz-rl checkpoints/ppo_reach --save rl.png",
        "simscale viz-rl runs/ppo_0 runs/ppo_1 --save seeds.png",
    ),
)
def viz_rl(runs: Runs, save: Save = None) -> None:
    """Draw the curves of reinforcement learning runs."""
    from simscaleai.tools import visualize

    _make(save, lambda: visualize.plot_rl_runs(runs))


@app.command(
    "viz-video",
    cls=RandomizeCommand,
    epilog=examples(
        "simscale viz-video --env-name pick_place --save expert.mp4",
        "simscale viz-video --policy checkpoints/final.pt --n-episodes 9 --randomize --save policy.mp4",
        "simscale viz-video --policy checkpoints/final.pt --only failures --speed 0.5 --save failures.gif",
        "simscale viz-video --policy checkpoints/final.pt --episode 17 --episode 42 --save two.mp4",
    ),
)
def viz_video(
    env_name: AnyEnv = None,
    policy: Policy = "scripted",
    n_episodes: Annotated[
        int, typer.Option(min=1, max=64, help="Number of episodes, one tile each.")
    ] = 4,
    save: Annotated[Path, typer.Option(help="mp4 or gif file to write.")] = Path("rollout.mp4"),
    episode: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Number of an episode, as in the results of `simscale eval`; may be repeated.",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="failures|successes", help="Show the first episodes that ended so."),
    ] = None,
    speed: Annotated[float, typer.Option(help="Simulated seconds per second.")] = 1.0,
    robot: RobotName = None,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    camera: Camera = None,
    seed: Seed = 0,
    randomize: Randomize = None,
    instruction: Instruction = None,
    n_steps: Steps = None,
    size: Size = 256,
) -> None:
    """Record a video of several episodes side by side, each marked with its outcome."""
    # matplotlib is imported by the command that draws: the others start without it
    from simscaleai.tools import visualize

    done = visualize.record_video(
        save,
        env_name,
        policy,
        n_episodes,
        seed=seed,
        randomize=randomize,
        camera=camera,
        size=size,
        n_steps=n_steps,
        robot=robot,
        episodes=episode,
        only=only,
        speed=speed,
        env_kwargs=env_settings(env, camera_pose),
        instruction=instruction,
    )
    echo(f"{done['successes']} of {done['n_episodes']} episodes succeeded: {done['output_path']}")


def _make(save: Path | None, draw: Callable[[], Figure]) -> None:
    """Draw a figure after checking that it can be saved or shown."""
    from simscaleai.tools import visualize

    path = visualize.check_target(save)  # before minutes of rendering
    visualize.save_or_show(draw(), path)
    if path is not None:  # a window needs no message
        echo(f"Wrote {path}.")
