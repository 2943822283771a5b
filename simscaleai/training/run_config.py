"""Settings of a run as a YAML file has them, for `simscale train` and `simscale sweep`.

    name: pick_place
    seed: 1
    data: {path: data/pick_place.h5}
    model: {name: bc, hidden_dim: 512}
    optimizer: {name: adamw, lr: 1e-3}
    schedule: {name: cosine, warmup_steps: 200}
    trainer: {max_steps: 12000, batch_size: 128}
    eval: {env_episodes: 50}

`RunConfig` is the schema: one group for each component, and `model` with a model's name and arguments, whose
types come from its constructor. `RunConfig.train_config()` returns the same settings as a flat `TrainConfig`.
The flat names are accepted in `trainer` too: trainer.lr stands for optimizer.lr.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simscaleai.config import load_config, to_yaml
from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.models.registry import argument_types, model_arguments, takes_anything
from simscaleai.tracking.folder import check_path_in_file
from simscaleai.training.component_settings import (
    COMPONENTS,
    CheckpointSettings,
    DataSettings,
    EvalSettings,
    HardwareSettings,
    LogSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainerSettings,
)
from simscaleai.training.train_config import TrainConfig

_FOLDER = "checkpoints.folder"


def _earlier_names() -> dict[str, str]:
    """Return {"trainer.lr": "optimizer.lr", ...}: `trainer` takes every flat name of `TrainConfig`."""
    return {
        f"trainer.{cls.flat_name(f.name)}": f"{group}.{f.name}"
        for group, cls in COMPONENTS.items()
        if group not in ("data", "trainer")
        for f in fields(cls)
    }


@dataclass
class RunConfig(Converted):
    """Settings of a training run in groups; see the module docstring.

    Attributes:
      name: name of the run, whose folder is `runs/<name>`; None for the folder `checkpoints.folder`.
      seed: determines initial weights, data order and dropout.
      model: "name" of the model, and its arguments.
      data, optimizer, schedule, trainer, hardware, checkpoints, log, eval: see `component_settings`.
      aliases: {alias: dotted name of the setting}, for files and the command line.
    """

    aliases: ClassVar[Mapping[str, str]] = _earlier_names()

    name: str | None = TrainConfig.run_name
    seed: int = TrainConfig.seed
    data: DataSettings = field(default_factory=DataSettings)
    model: JsonDict = field(default_factory=lambda: {"name": TrainConfig.model_name})
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    hardware: HardwareSettings = field(default_factory=HardwareSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    log: LogSettings = field(default_factory=LogSettings)
    eval: EvalSettings = field(default_factory=EvalSettings)

    def train_config(self) -> TrainConfig:
        """Return the same settings as a flat `TrainConfig`, which has no `eval`."""
        arguments = dict(self.model)
        name = arguments.pop("name", TrainConfig.model_name)
        values = {
            cls.flat_name(f.name): getattr(getattr(self, group), f.name)
            for group, cls in COMPONENTS.items()
            for f in fields(cls)
        }
        return TrainConfig(
            run_name=self.name, seed=self.seed, model_name=name, model_kwargs=arguments, **values
        )

    @classmethod
    def of(cls, config: TrainConfig) -> RunConfig:
        """Return the inverse of `train_config`."""
        groups: JsonDict = {group: config.part(part) for group, part in COMPONENTS.items()}
        model = {"name": config.model_name, **config.model_kwargs}
        return cls(name=config.run_name, seed=config.seed, model=model, **groups)


def load_run(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> RunConfig:
    """Load settings from a YAML file, then from overrides, then from flags.

    A folder from an override or a flag takes precedence over the name in the file. A folder in the file must
    be inside the working directory, or the folder of the file itself: the file may come from somebody else.

    Args:
      path: a YAML file; None for the defaults.
      overrides: texts `key=value`.
      flags: {dotted name: value}.

    Raises:
      UserError: an unknown key, model or argument of that model, a value of the wrong type, or a folder that
        a file may not name.
    """
    values = _nested(flags or {})
    run = load_config(RunConfig, path, overrides, **values)
    given = {*(flags or {}), *(word.partition("=")[0] for word in overrides)}
    given = {RunConfig.aliases.get(key, key) for key in given}
    # Both a name and a folder say where the run's files go.
    if _FOLDER in given:
        if "name" in given and run.name is not None:
            raise UserError(
                f"Both a name and {_FOLDER} were given, and each says which folder the run has; give one."
            )
        run.name = None
    elif path is not None:
        folder = run.checkpoints.folder
        if Path(folder).resolve() != Path(path).resolve().parent:  # as in a run's own config.yaml
            check_path_in_file(folder, _FOLDER, path, "--checkpoint-dir", Path.cwd())
    name = run.model.setdefault("name", TrainConfig.model_name)
    if not isinstance(name, str) or not all(isinstance(key, str) for key in run.model):
        raise UserError(
            f"{path or 'The settings'}: model is {run.model!r}; it has a name, as `simscale list-models`"
            " shows them, and arguments by name."
        )
    # The arguments are loaded once more, with the types of the model's constructor.
    if not takes_anything(name):
        typed = load_config(_schema_of(name), path, overrides, **values)
        arguments = [key for key in run.model if key != "name"]
        run.model = {"name": name, **{key: getattr(typed.model, key) for key in arguments}}
    return run


def _schema_of(name: str) -> type[RunConfig]:
    """Return `RunConfig` with the constructor of a model as the schema of `model`."""
    defaults = model_arguments(name)
    settings: list[tuple[str, Any, Any]] = [("name", str, field(default=name))]
    for key, hint in argument_types(name).items():
        if key != "name":
            settings.append((key, *_setting(hint, defaults[key])))
    arguments = make_dataclass(f"{name} model", settings)
    return make_dataclass(
        RunConfig.__name__,
        [("model", arguments, field(default_factory=arguments))],
        bases=(RunConfig,),
        namespace={"__module__": __name__},
    )


def _setting(hint: Any, default: object) -> tuple[object, object]:
    """Return type and dataclass field of a model's argument; the type is `Any` if OmegaConf refuses it."""
    if (
        default is inspect.Parameter.empty
    ):  # an argument without a default is None until it is given
        hint, default = hint | None, None
    setting = hint, field(default_factory=lambda: default)
    # OmegaConf says which types it knows only when it builds a schema from them.
    try:
        OmegaConf.structured(make_dataclass("Try", [("value", *setting)]))
    except (OmegaConfBaseException, TypeError, ValueError):
        return Any, field(default=None)
    return setting


def _nested(flags: Mapping[str, object]) -> JsonDict:
    """Return {"a": {"b": 1}} for {"a.b": 1}."""
    result: JsonDict = {}
    for key, value in flags.items():
        *groups, last = key.split(".")
        place = result
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return result


def replayable(run: RunConfig) -> str:
    """Return the YAML that starts the run anew, with the model's default arguments written out.

    A later release may have other defaults, and must still train the same model from the file.
    """
    name = run.model["name"]
    plain = (bool, int, float, str)
    defaults = {k: v for k, v in model_arguments(name).items() if isinstance(v, plain)}
    return to_yaml(
        replace(
            run,
            model={"name": name, **defaults, **run.model},
            checkpoints=replace(run.checkpoints, resume_from=None),
        )
    )
