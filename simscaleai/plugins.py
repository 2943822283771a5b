"""Plugins: packages that register tasks, robots, models and agents of their own when they are imported.

    simscale list-envs --import my_package --import my_arm.py      # an option of every command
    SIMSCALE_IMPORT=my_package,my_arm.py simscale list-envs
    [project.entry-points."simscaleai.plugins"]                    # in the pyproject.toml of my_package
    my_package = "my_package"

A plugin is imported once, when a registry looks up a name. Those requested with `--import` or the environment
variable are imported before any name is looked up; installed ones only for a name that is not built in, and
to list names, so that a broken or slow one does not affect users who do not need it. Worker processes, the
ranks of torchrun and the runs of a sweep inherit the environment variable.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from simscaleai.errors import UserError
from simscaleai.guards import reason

VARIABLE = "SIMSCALE_IMPORT"
GROUP = "simscaleai.plugins"
LOADED = "loaded"
_SEPARATORS = re.compile(rf"[,{re.escape(os.pathsep)}]")

# {plugin: LOADED, or a sentence that says why it cannot be imported}, for the plugins tried so far.
_states: dict[str, str] = {}
_installed_tried = False


def request(names: Sequence[str]) -> None:
    """Add modules or Python files to the plugins that this process and its child processes import."""
    # A file by its whole path: a worker on another machine may start in another folder.
    added = [str(Path(name).absolute()) if name.endswith(".py") else name for name in names]
    if added:
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*requested(), *added]))


def requested() -> list[str]:
    """Return the modules and files asked for by `SIMSCALE_IMPORT`, in order."""
    words = _SEPARATORS.split(os.environ.get(VARIABLE, ""))
    return [word.strip() for word in words if word.strip()]


def load_requested() -> None:
    """Import the requested plugins that are not imported yet; UserError for one that cannot be."""
    for name in requested():
        if name not in _states:
            # A failure is not recorded: in a notebook, the next call tries the corrected file.
            _import_requested(name)
            _states[name] = LOADED


def load_installed() -> None:
    """Import the installed plugins, once; a failure is recorded in `states` and raises nothing."""
    global _installed_tried
    if _installed_tried:
        return
    _installed_tried = True  # before the imports: a plugin may look names up itself
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            entry.load()
            _states[entry.name] = LOADED
        except (Exception, SystemExit) as error:  # whatever it is, the built-ins still work
            owner = f" of the package {entry.dist.name!r}" if entry.dist is not None else ""
            _states[entry.name] = (
                f"The plugin {entry.name!r}{owner} cannot be imported ({_describe(error)}); mend it, or"
                " uninstall the package."
            )


def states() -> dict[str, str]:
    """Import all plugins; return {plugin: "loaded", or a sentence that says why it cannot be imported}.

    A requested plugin whose failure is reported here does not raise in `load_requested` afterwards.
    """
    for name in requested():
        try:
            if name not in _states:
                _import_requested(name)
                _states[name] = LOADED
        except UserError as error:
            _states[name] = str(error)
    load_installed()
    return dict(_states)


def remedy() -> str:
    """Return what an error for an unknown name adds: how to import a plugin, and which are broken."""
    broken = [state.rstrip(".") for state in _states.values() if state != LOADED]
    return "; ".join([f"names of your own come with --import MODULE (or {VARIABLE})", *broken])


def import_from_here(name: str) -> ModuleType:
    """Import a module, also from the working directory, as `python -m` does."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def _import_requested(name: str) -> None:
    """Import a module or a Python file; UserError if that fails, whatever it raises."""
    try:
        if name.endswith(".py"):
            _import_file(Path(name))
        else:
            import_from_here(name)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"The plugin {name!r} cannot be imported ({_describe(error)}); --import and {VARIABLE} take"
            " modules that are installed or in the working directory, and paths of Python files."
        ) from error


def _import_file(path: Path) -> None:
    """Import a Python file under its own name, by which a worker process finds its classes again."""
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that it hides no other module
    module = importlib.import_module(path.stem)
    # a module of that name may have been imported before, or come first on the path
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path:
        raise ImportError(f"another module is called {path.stem!r}; rename the file")


def _describe(error: BaseException) -> str:
    """Return type and reason of an error, such as "KeyError: 'x'"."""
    text = reason(error)
    name = type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}"
