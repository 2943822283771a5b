"""Lists of environments and models; versions and devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simscaleai import plugins
from simscaleai.tools.app import app, examples

if TYPE_CHECKING:
    from simscaleai.sim.task import Task


@app.command("list-envs", epilog=examples("simscale list-envs"))
def list_envs() -> None:
    """List the environments with their instructions and observations."""
    from simscaleai.errors import printable
    from simscaleai.guards import reason
    from simscaleai.sim import list_envs
    from simscaleai.tools.console import table

    # after the table: a fault of one plugin must not hide what works
    faults = [state for state in plugins.states().values() if state != plugins.LOADED]
    rows = []
    for name in list_envs():
        try:
            rows.append((name, *_about_env(name)))
        except Exception as error:  # a class of the user's, whose fault hides no other
            rows.append((name, "", "cannot be made, see below"))
            faults.append(
                f"The environment {name!r} cannot be made: {type(error).__name__}: {reason(error)}."
            )
    table("Environments", ["name", "instruction", "observation"], rows)
    for fault in faults:
        typer.echo(printable(fault), err=True)


@app.command(
    "list-models", epilog=examples("simscale list-models", "simscale list-models vla:small")
)
def list_models(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Show only the arguments of this model.")
    ] = None,
) -> None:
    """List the models and their presets with size and inputs, or the arguments of MODEL."""
    from simscaleai.models.overview import find_entry, overview
    from simscaleai.tools.console import table

    if model is not None:
        entries = [find_entry(model)]
    else:
        listed = overview()
        rows = [
            (
                entry.name,
                "" if entry.parameters is None else f"{entry.parameters:,}",
                entry.inputs,
                "" if ":" in entry.name else entry.description,  # a preset has that of its model
            )
            for entry in listed
        ]
        table("Models", ["name", "parameters", "reads", "description"], rows)
        entries = [entry for entry in listed if ":" not in entry.name]
    table("Arguments", ["name", "arguments"], [(e.name, e.arguments) for e in entries])


@app.command("recipes", epilog=examples("simscale recipes"))
def list_recipes() -> None:
    """List the settings files that come with the package; `--config NAME` uses one."""
    from simscaleai.recipes import KINDS, recipes
    from simscaleai.tools.console import table

    found = [(recipe.name, KINDS[recipe.kind], recipe.description) for recipe in recipes()]
    table("Recipes", ["name", "command", "what it trains"], found)


@app.command(epilog=examples("simscale info"))
def info() -> None:
    """Show versions, devices and the render engines that work."""
    from simscaleai.tools import info
    from simscaleai.tools.console import table

    # each table is printed as soon as it is known: trying the render engines takes seconds
    table("Versions", ["library", "version"], list(info.versions().items()))
    table("Devices", ["device", "found"], list(info.devices().items()))
    if found := plugins.states():
        table("Plugins", ["plugin", "state"], list(found.items()))
    table("Render engines", ["engine", "state"], list(info.render_engines().items()))
    typer.echo(f"Scenes: {info.assets()}")


def _about_env(name: str) -> tuple[str, str]:
    """Return an environment's instruction, and the names and shapes of its observations."""
    from simscaleai.contract import EnvContract
    from simscaleai.rollout.gym_types import GymEnv
    from simscaleai.sim import make_env

    env: GymEnv = make_env(name, cameras=[])  # without cameras, no engine has to work
    try:
        space = env.observation_space
        parts = getattr(space, "spaces", None)  # None: a user's environment with a single array
        shapes = (
            {"": space.shape}
            if not isinstance(parts, dict)
            else {k: v.shape for k, v in parts.items()}
        )
        features = [
            f"{key} {'x'.join(map(str, shape or ())) or 'number'}" for key, shape in shapes.items()
        ]
        # only our tasks have instructions
        ours = EnvContract.of(env) is not None
        instruction = _example(env.unwrapped.task) if ours else ""
    finally:
        env.close()
    return instruction, ", ".join(part.strip() for part in features)


def _example(task: Task) -> str:
    """Return the first instruction of a task, with all words for each of its fields: "red/green/blue"."""
    words: dict[str, dict[str, None]] = {}  # {field: words}; a dict keeps their order
    for fields in getattr(task, "words", {}).values():
        for field, word in fields.items():
            words.setdefault(field, {})[word] = None
    instruction = task.instructions[0]
    for field, each in words.items():
        instruction = instruction.replace(f"{{{field}}}", "/".join(each))
    return instruction
