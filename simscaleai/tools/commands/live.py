"""Watch a policy live."""

from __future__ import annotations

from typing import Annotated

import typer

from simscaleai.tools.app import app, examples
from simscaleai.tools.commands.options import CameraPoses, EnvSettings, RobotName, env_settings


@app.command(
    "viz-live",
    epilog=examples(
        "simscale viz-live --env-name pick_place",
        "simscale viz-live --policy checkpoints/final.pt --web",
        "simscale viz-live --policy runs/vla_pick_place_color --policy scripted --web",
        "simscale viz-live --policy runs --web --port 0 --speed 0.25",
    ),
)
def viz_live(
    env_name: Annotated[
        str | None,
        typer.Option(help="Environment; default: that of the checkpoint, or reach."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="scripted (the default, the expert), random, a checkpoint, a run, module:function or"
            " ws://HOST:PORT. With --web, may be repeated, or be a folder of runs: a menu switches."
        ),
    ] = None,
    robot: RobotName = None,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episodes.")] = 0,
    speed: Annotated[float, typer.Option(help="Simulated seconds per second.")] = 1.0,
    web: Annotated[
        bool, typer.Option("--web", help="Serve a page for a browser instead of a window.")
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            help="Address to serve at; any other than 127.0.0.1 is reachable from other machines."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to serve at; 0 selects a free one.")
    ] = 8080,
) -> None:
    """Watch a policy control the arm, in a window, or in a browser with a field for instructions."""
    # viewers are optional, and are imported by the command alone
    from simscaleai.tools.live import view_live

    player = view_live(
        env_name,
        policy or "scripted",
        seed=seed,
        speed=speed,
        web=web,
        host=host,
        port=port,
        robot=robot,
        env_kwargs=env_settings(env, camera_pose),
    )
    typer.echo(f"{player.successes} of {player.finished} episodes succeeded.")
