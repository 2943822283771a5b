"""Reinforcement learning."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import app, examples
from simscaleai.tools.commands.options import (
    CameraPoses,
    Config,
    EnvSettings,
    RobotName,
    env_settings,
    given,
)


@app.command(
    epilog=examples(
        "simscale rl --env-name reach --total-steps 200000",
        "simscale rl --config configs/rl/pick_place.yaml --name pick_place --seed 1",
        "simscale rl --config configs/rl/reach.yaml agent.gamma=0.97 env.max_episode_steps=100",
        "simscale rl --config configs/rl/pick_place.yaml --init-from checkpoints/final.pt",
        "simscale rl --config runs/pick_place/config.yaml --resume auto",
    ),
)
def rl(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Any setting, such as agent.lr=3e-4."),
    ] = None,
    config: Config = None,
    name: Annotated[
        str | None, typer.Option(help="Write to runs/NAME; without it, to checkpoints/AGENT_ENV.")
    ] = None,
    env_name: Annotated[
        str | None,
        typer.Option(help="Environment; see `simscale list-envs`.", show_default="reach"),
    ] = None,
    robot: RobotName = None,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    agent: Annotated[
        str | None, typer.Option(help="Algorithm: ppo, cem.", show_default="ppo")
    ] = None,
    total_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Total steps of all environments.", show_default="1000000"),
    ] = None,
    num_envs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of parallel environments.", show_default="128"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the whole run.", show_default="0")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device of the networks: auto, cpu or cuda.", show_default="cpu"),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or run of a cloned policy that initializes the agent."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|auto", help="Checkpoint or run to resume from; auto: this run's newest."
        ),
    ] = None,
    save_path: Annotated[
        Path | None,
        typer.Option(help="File of the final agent; default final.pt in the run's folder."),
    ] = None,
    use_wandb: Annotated[
        bool, typer.Option("--use-wandb", help="Log to Weights & Biases.")
    ] = False,
) -> None:
    """Train an agent by reinforcement learning, by default with PPO.

    Settings come from the defaults, then --config, then KEY=VALUE arguments, then the flags.

    `simscale config rl` lists every KEY with its default and meaning.
    """
    from simscaleai.recipes import find_config
    from simscaleai.rl.settings import load_rl
    from simscaleai.rl.training import train_agent
    from simscaleai.tools.console import finish, results

    start = time.perf_counter()

    # --robot is a setting of the environment, and is stored with the others
    settings = env_settings(env, camera_pose) | ({} if robot is None else {"robot": robot})
    # a group is given only if one of its flags is: None would replace that of the file
    of_agent = {"name": agent, "total_timesteps": total_steps}
    flags = {
        "name": name,
        "env_name": env_name,
        "num_envs": num_envs,
        "seed": seed,
        "device": device,
        "init_from": init_from,
        "resume_from": resume,
        "save_path": save_path,
        "use_wandb": use_wandb or None,  # without the flag, the file decides
        "env": settings or None,
        "agent": {key: value for key, value in of_agent.items() if value is not None} or None,
    }
    path = config and find_config(config, "rl")
    done = train_agent(load_rl(path, overrides or (), **given(flags)))
    stopped = done.pop("stopped")
    results("Reinforcement learning", done)
    following = [] if stopped else [shlex.join(["simscale", "eval", str(done["output_path"])])]
    finish(time.perf_counter() - start, *following)
    if stopped:  # the exit code of a shell after Ctrl-C
        typer.echo("Stopped early; resume with --resume auto.", err=True)
        raise typer.Exit(130)
