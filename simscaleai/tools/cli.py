"""The `simscale` command: parse, call, print. What a command does lives below it.

Libraries that take seconds to import are imported inside the command that needs them, so that
`simscale --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simscaleai.tools.app import RANDOMIZE, RandomizeCommand, app, examples

Env = Annotated[str, typer.Option("--env-name", help="Environment; see `simscale list-envs`.")]
Randomize = Annotated[
    str | None,
    typer.Option(
        RANDOMIZE,
        metavar="[LEVEL]",
        help="Domain randomization: light, default or heavy; `default` if no level is named.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from simscaleai import __version__

        typer.echo(f"simscale {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("list-envs", epilog=examples("simscale list-envs"))
def list_envs() -> None:
    """List the environments: what is to be done, and what a policy sees."""
    from simscaleai.sim import list_envs, make_env
    from simscaleai.tools.console import table

    rows = []
    for name in list_envs():
        env: Any = make_env(name, cameras=[])
        shapes = env.contract.obs_shapes
        seen = ", ".join(f"{key} {'x'.join(map(str, shape))}" for key, shape in shapes.items())
        rows.append((name, env.task.instructions[0], seen))
        env.close()
    table("Environments", ["name", "instruction", "observation"], rows)


@app.command("list-models", epilog=examples("simscale list-models"))
def list_models() -> None:
    """List the models and the arguments that they take."""
    from simscaleai.models.registry import list_models, model_arguments
    from simscaleai.tools.console import table

    rows = []
    for name in list_models():
        arguments = model_arguments(name).items()
        rows.append((name, ", ".join(f"{key}={default!r}" for key, default in arguments)))
    table("Models", ["name", "arguments"], rows)


@app.command(epilog=examples("simscale info"))
def info() -> None:
    """Show versions, devices and which render engines work."""
    from simscaleai.tools import info
    from simscaleai.tools.console import table

    table("Versions", ["library", "version"], list(info.versions().items()))
    table("Devices", ["device", "found"], list(info.devices().items()))
    table("Render engines", ["engine", "state"], list(info.render_engines().items()))
    typer.echo(f"Scenes: {info.assets()}")


@app.command(
    cls=RandomizeCommand,
    epilog=examples(
        "simscale datagen --env-name reach --n-episodes 100 --output data/reach.h5",
        "simscale datagen --env-name pick_place --n-episodes 1000 --randomize --only-success",
        "simscale datagen --n-episodes 50 --policy checkpoints/final.pt --output data/rollouts.h5",
        "simscale datagen --n-episodes 100000 --workers 8 --output data/big.h5 --resume",
    ),
)
def datagen(
    env_name: Env = "reach",
    n_episodes: Annotated[int, typer.Option(min=1, help="How many episodes to keep.")] = 100,
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file to write.")] = Path(
        "data/dataset.h5"
    ),
    policy: Annotated[
        str, typer.Option(help="scripted (the expert), random, or the path of a checkpoint.")
    ] = "scripted",
    randomize: Randomize = None,
    only_success: Annotated[
        bool, typer.Option("--only-success", help="Keep successful episodes alone.")
    ] = False,
    noise: Annotated[
        float,
        typer.Option(min=0, help="Std of noise on executed actions; labels stay clean."),
    ] = 0.0,
    max_steps: Annotated[int, typer.Option(min=1, help="Longest episode, in steps.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Decides every episode.")] = 42,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    num_envs: Annotated[
        int, typer.Option(min=1, help="Most simulations at once in each process.")
    ] = 64,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a stopped run left off.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Generate demonstrations."""
    from simscaleai.datagen import generate_dataset
    from simscaleai.tools.console import results

    result = generate_dataset(
        env_name,
        n_episodes,
        str(output),
        policy,
        domain_randomization=randomize is not None,
        randomize=randomize,
        max_steps=max_steps,
        seed=seed,
        only_success=only_success,
        noise=noise,
        workers=workers,
        num_envs=num_envs,
        resume=resume,
        overwrite=overwrite,
    )
    results("Dataset", result)
    _check(output)


@app.command(
    epilog=examples(
        "simscale train --dataset data/reach.h5 --max-steps 1000",
        "simscale train --dataset data/reach.h5 --batch-size 256 --lr 1e-3 --checkpoint-dir runs/a",
        "simscale train --config configs/train/bc_state.yaml model_kwargs.hidden_dim=512 seed=1",
        "simscale train --dataset data/reach.h5 --resume checkpoints/step_5000.pt",
    ),
)
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Any field of TrainConfig."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of TrainConfig fields.")] = None,
    model: Annotated[str | None, typer.Option(help="Model; see `simscale list-models`.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="HDF5 file of episodes.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples in a step.")] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Weights and data order.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    checkpoint_dir: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Checkpoint to go on from.")] = None,
) -> None:
    """Train a model on a dataset.

    Settings come from the defaults, then --config, then KEY=VALUE words, then the flags.
    """
    from simscaleai.config import load_config
    from simscaleai.tools.console import results
    from simscaleai.training import TrainConfig, train_policy

    flags = {
        "model_name": model,
        "dataset_path": dataset,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "device": device,
        "checkpoint_dir": checkpoint_dir,
        "resume_from": resume,
    }
    given = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in flags.items()
        if value is not None
    }
    settings = load_config(TrainConfig, config, overrides or (), **given)
    results("Training", train_policy(settings))


@app.command(
    "eval",
    cls=RandomizeCommand,
    epilog=examples(
        "simscale eval checkpoints/final.pt",
        "simscale eval checkpoints/final.pt --n-episodes 1000 --seed 7",
        "simscale eval checkpoints/final.pt --randomize heavy --output runs/heavy",
    ),
)
def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint of `simscale train`.")
    ],
    env_name: Annotated[
        str | None,
        typer.Option(help="Environment; by default the one that the policy was trained for."),
    ] = None,
    n_episodes: Annotated[int, typer.Option(min=1, help="Episodes.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Decides the starts.")] = 0,
    num_envs: Annotated[int | None, typer.Option(min=1, help="Simulations at once.")] = None,
    randomize: Randomize = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of eval_info.json; beside the checkpoint."),
    ] = None,
) -> None:
    """Let a policy drive the arm and count its successes."""
    from simscaleai.rl.evaluator import evaluate_checkpoint
    from simscaleai.tools.console import results

    result = evaluate_checkpoint(
        checkpoint,
        n_episodes=n_episodes,
        seed=seed,
        env_name=env_name,
        num_envs=num_envs,
        randomize=randomize,
        output_dir=output,
    )
    results("Evaluation", result)


@app.command(epilog=examples("simscale validate data/reach.h5"))
def validate(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="HDF5 file of episodes.")],
) -> None:
    """Check a dataset; exit code 1 if it has errors."""
    _check(dataset)


def _check(dataset: Path) -> None:
    """Print what `validate_dataset` finds; exit code 1 if there are errors."""
    from simscaleai.datagen import validate_dataset
    from simscaleai.tools.console import table

    report = validate_dataset(dataset)
    found = f"{report.episodes} episodes, {report.steps} steps, {report.successes} successful"
    rows = [("content", found), ("hash", report.content_hash or "none")]
    rows += [("error", sentence) for sentence in report.errors]
    rows += [("warning", sentence) for sentence in report.warnings]
    rows += [("verdict", "good" if report.ok else "not fit for training")]
    table(f"Check of {dataset}", ["", "found"], rows)
    if not report.ok:
        raise typer.Exit(1)


def main(args: list[str] | None = None) -> None:
    """Entry point of the console script."""
    app(args=args, prog_name="simscale")


if __name__ == "__main__":
    main()
