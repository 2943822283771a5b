"""Write a small package with a task, a robot or a model of the user's own, which passes its own tests.

The files come from `simscaleai/templates/<kind>/`, with `$name` and `$Class` filled in. `test.py` goes to the
folder `tests`, and a scene or an MJCF is named after the package: a file `scene.xml` would hide the bundled
one that it includes.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import tempfile
from pathlib import Path
from string import Template

from simscaleai.errors import ExistingFileError, UserError, unknown_name
from simscaleai.storage.atomic import require_writable

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
KINDS = ("task", "robot", "model")

# The commands that come next; $name is the package.
COMMANDS = {
    "task": (
        "simscale datagen --import $name --env-name $name --n-episodes 200 --noise 0.1 --only-success"
        " --output data/$name.h5",
        "simscale train --import $name --dataset data/$name.h5 --name $name --max-steps 4000",
        "simscale eval --import $name runs/$name/checkpoints/final.pt",
    ),
    "robot": (
        "simscale viz-env --import $name --env-name reach --robot $name",
        "simscale datagen --import $name --env-name pick_place --robot $name --n-episodes 200"
        " --only-success --output data/$name.h5",
        "simscale train --import $name --dataset data/$name.h5 --name $name --max-steps 4000",
    ),
    "model": (
        "simscale datagen --env-name reach --n-episodes 100 --output data/reach.h5",
        "simscale train --import $name --model $name --dataset data/reach.h5 --name $name"
        " --max-steps 2000",
        "simscale eval --import $name runs/$name/checkpoints/final.pt",
    ),
}


def write_package(kind: str, name: str, folder: Path) -> list[str]:
    """Write the package `name` into `folder/name`; return the next commands, to be run in there.

    Raises:
      UserError: an unknown kind, or a name that cannot be that of a new package.
      ExistingFileError: there is such a folder already.
      CannotWriteError: nothing can be written there.
    """
    if kind not in KINDS:
        raise unknown_name("kind of package", kind, KINDS)
    _check_name(kind, name)
    project = folder / name
    if project.exists():
        raise ExistingFileError(f"{project} exists already; choose another name or folder.")
    require_writable(project)
    folder.mkdir(parents=True, exist_ok=True)
    commands = [Template(command).substitute(name=name) for command in COMMANDS[kind]]
    fill = {
        "name": name,
        "Class": "".join(part.capitalize() for part in name.split("_")),
        "kind": kind,
        "commands": "\n".join(commands),
    }
    # The folder appears whole: it is written beside its place and renamed.
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as temporary:
        written = Path(temporary, name)
        for template in sorted((*TEMPLATES.glob("common/*"), *TEMPLATES.glob(f"{kind}/*"))):
            place = written / _place(template.name.removesuffix(".tmpl"), name)
            place.parent.mkdir(parents=True, exist_ok=True)
            text = Template(template.read_text(encoding="utf-8")).substitute(fill)
            place.write_text(text, encoding="utf-8")
        if kind == "robot":
            from simscaleai.sim.robots.robot import ASSETS

            shutil.copyfile(ASSETS / "ur5e.xml", written / name / f"{name}.xml")
        written.rename(project)
    return commands


def _place(file: str, name: str) -> Path:
    """Return where a template goes, relative to the project's folder."""
    if file in ("pyproject.toml", "README.md"):
        return Path(file)
    if file == "test.py":
        return Path("tests", f"test_{name}.py")
    return Path(name, f"{name}.xml" if file.endswith(".xml") else file)


def _check_name(kind: str, name: str) -> None:
    """Check that a new package and a registered thing may have this name; UserError if not."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) or keyword.iskeyword(name):
        raise UserError(
            f"The name {name!r} cannot be that of a package; use lower-case letters, digits and"
            " underscores, beginning with a letter, such as push_puck."
        )
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"A module {name!r} can be imported already; choose another name.")
    if name in _registered(kind):
        raise UserError(f"There is a {kind} {name!r} already; choose another name.")


def _registered(kind: str) -> list[str]:
    """Return the names that are taken."""
    if kind == "task":
        from simscaleai.sim import list_envs

        return list_envs()
    if kind == "robot":
        from simscaleai.sim.robots.robot import list_robots

        return list_robots()
    from simscaleai.models.registry import list_models

    return list_models()
