"""Use Hydra for its syntax of several values and its launchers.

Hydra does not compose the user's configuration. Its only setting is the number of a job, so that no YAML
file can reach its interpolations or its `_target_`. From the command line it gets only the launcher and the
options of the launcher.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from simscaleai.errors import UserError, unknown_name
from simscaleai.json_types import JsonDict, JsonValue
from simscaleai.plugins import request, requested

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import DictConfig

# Short names of launchers, and the packages of launchers that are not part of Hydra.
ALIASES = {"submitit": "submitit_slurm"}
PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
}
_LAUNCHER = "hydra/launcher="
_OPTION = re.compile(r"hydra\.launcher(\.[a-zA-Z]\w*)+=")


@dataclass
class Words:
    """Arguments of a command line.

    Attributes:
      values: {key: values}, one or several.
      options: options of the launcher, in Hydra's syntax.
      launcher: name of the launcher; None if no argument names one.
    """

    values: dict[str, list[JsonValue]] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    launcher: str | None = None

    def combinations(self) -> Iterator[JsonDict]:
        """Yield {key: value} of every job; the last key changes fastest."""
        for chosen in itertools.product(*self.values.values()):
            yield dict(zip(self.values, chosen, strict=True))


def parse_words(words: Sequence[str]) -> Words:
    """Parse `key=value` arguments, whose values may be `a,b`, `choice(a,b)` or `range(1,9,2)`.

    Raises:
      UserError: Hydra is not installed or cannot parse an argument; or an argument is not allowed.
    """
    _require_hydra()
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    found = Words()
    for word in words:
        if "${" in word:  # an interpolation could read environment variables and files
            raise UserError(f"{word!r} refers to another value; write the value itself.")
        if word.startswith(_LAUNCHER):
            found.launcher = word.removeprefix(_LAUNCHER)
        elif _OPTION.match(word):
            found.options.append(word)
        elif word.startswith("hydra"):
            raise UserError(
                f"{word!r}: of Hydra's settings a sweep takes hydra/launcher and hydra.launcher.<option>."
            )
        else:
            found.values.update([_values(parser, word)])
    return found


def _values(parser: OverridesParser, word: str) -> tuple[str, list[JsonValue]]:
    """Return key and values of an argument."""
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    try:
        override = parser.parse_override(word)
        # not "+key=", "~key" or "key@package=", which edit Hydra's own configuration
        plain = override.type is OverrideType.CHANGE and override.package is None
        if override.is_sweep_override():
            values = [_plain(value) for value in override.sweep_iterator()]
        else:
            values = [_plain(override.value())]
    except HydraException as error:
        raise UserError(
            f"{word!r} cannot be read: {_first_line(error)}; write key=value or key=a,b, with quotes around"
            " text that is not a plain word."
        ) from None
    if not plain:
        raise UserError(f"{word!r} is not an override; write key=value or key=a,b.")
    if not values:
        raise UserError(f"{word!r} gives no value; write key=a,b.")
    return override.key_or_group, values


def _plain(value: Any) -> JsonValue:
    """Return a value of Hydra's parser, of whatever type, as a JSON value without quotes."""
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, float):
        return float(f"{value:.12g}")  # a range with step 0.1 gives 0.30000000000000004
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {cast(str, _plain(key)): _plain(part) for key, part in value.items()}
    return value


def launch(
    task: Callable[[int], None],
    numbers: Sequence[int],
    folder: Path,
    launcher: str,
    options: Sequence[str] = (),
) -> None:
    """Call `task(number)` for every number, on the machines of the launcher; return when all have ended.

    Args:
      task: a function that can be pickled; its result is ignored.
      numbers: numbers of the jobs.
      folder: folder for the files of Hydra and the launcher.
      launcher: name in Hydra's group `hydra/launcher`.
      options: arguments `hydra.launcher.<option>=value`.

    Raises:
      UserError: the launcher or an option is unknown.
    """
    _require_hydra()
    from hydra import initialize
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    name = "simscale_sweep"
    sweep = {"dir": str(folder), "subdir": "."}
    ConfigStore.instance().store(
        name, {"job": 0, "hydra": {"sweep": sweep, "output_subdir": None}}, provider="simscaleai"
    )
    launcher = ALIASES.get(launcher, launcher)
    overrides = [
        f"{_LAUNCHER}{launcher}",
        # the command prints its own lines, and Hydra would reconfigure the logging of the process
        "hydra/hydra_logging=none",
        "hydra/job_logging=none",
        *options,
        f"job={','.join(map(str, numbers))}",
    ]
    with initialize(config_path=None, version_base="1.3", job_name="simscale"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        known = hydra.config_loader.get_group_options("hydra/launcher")
        if launcher not in known:
            raise _unknown_launcher(launcher, known)
        try:
            hydra.multirun(
                name, partial(_call, task, requested()), overrides, with_log_configuration=False
            )
        except HydraException as error:
            raise UserError(
                f"The launcher {launcher!r} did not start: {_first_line(error)}."
            ) from None
        except Exception as error:
            if launcher == "basic":  # in this process: the error is the task's own
                raise
            raise UserError(
                f"The launcher {launcher!r} broke off: {type(error).__name__}: {_first_line(error)}."
            ) from error


def _call(task: Callable[[int], None], imports: Sequence[str], config: DictConfig) -> None:
    request(imports)  # on another machine, the environment variable of --import is missing
    task(config.job)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _unknown_launcher(launcher: str, known: Sequence[str]) -> UserError:
    if launcher in PACKAGES:
        return UserError(f"The launcher {launcher!r} needs the package {PACKAGES[launcher]}.")
    return unknown_name("launcher", launcher, {*known, *PACKAGES})


def _require_hydra() -> None:
    try:
        import hydra  # noqa: F401
    except ImportError:
        raise UserError(
            "A sweep needs the package hydra-core, which is not installed; install simscaleai[sweep]."
        ) from None
