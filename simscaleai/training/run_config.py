"""A run as a YAML file describes it: what `simscale train` and `simscale sweep` are given.

    name: pick_place
    seed: 1
    data: {path: data/pick_place.h5}
    model: {name: bc, hidden_dim: 512}
    optimizer: {name: adamw, lr: 1e-3}
    schedule: {name: cosine, warmup_steps: 200}
    trainer: {max_steps: 12000, batch_size: 128}
    eval: {env_episodes: 50}

`RunConfig` is the schema: one group for each component, and `model` with the arguments of the model of that
name, typed by its constructor. `RunConfig.train_config()` is the same run as the flat `TrainConfig`. The flat
names in `trainer`, such as trainer.lr, stand for those of the groups.
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
from simscaleai.models.registry import argument_types, model_arguments, takes_anything
from simscaleai.tracking.folder import check_path_in_file
from simscaleai.training.settings import (
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
    """A training run in groups; see the module.

    Attributes:
      name: the run's folder is `runs/<name>`; without one it is `checkpoints.folder`.
      seed: decides initial weights, data order and dropout.
      model: `name`, and arguments of that model.
      data, optimizer, schedule, trainer, hardware, checkpoints, log, eval: see their classes in `settings`.
      aliases: {dotted name: the name that it stands for}, in files and on the command line.
    """

    aliases: ClassVar[Mapping[str, str]] = _earlier_names()

    name: str | None = TrainConfig.run_name
    seed: int = TrainConfig.seed
    data: DataSettings = field(default_factory=DataSettings)
    model: dict[str, Any] = field(default_factory=lambda: {"name": TrainConfig.model_name})
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    hardware: HardwareSettings = field(default_factory=HardwareSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    log: LogSettings = field(default_factory=LogSettings)
    eval: EvalSettings = field(default_factory=EvalSettings)

    def train_config(self) -> TrainConfig:
        """Return the same settings without groups, and without `eval`."""
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
        groups: dict[str, Any] = {group: config.part(part) for group, part in COMPONENTS.items()}
        model = {"name": config.model_name, **config.model_kwargs}
        return cls(name=config.run_name, seed=config.seed, model=model, **groups)


def load_run(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Load a run from a YAML file, then `key=value` words, then `flags` by dotted name.

    The folder that words or flags give wins over a name in the file. One in the file stays within the working
    folder, or is the folder that the file itself is in: the file may be somebody else's.

    Raises:
      UserError: an unknown key, model or argument of that model, a value of the wrong type, or a folder that
        a file may not name.
    """
    values = _nested(flags or {})
    run = load_config(RunConfig, path, overrides, **values)
    given = {*(flags or {}), *(word.partition("=")[0] for word in overrides)}
    given = {RunConfig.aliases.get(key, key) for key in given}
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
    if not takes_anything(name):
        typed = load_config(_schema_of(name), path, overrides, **values)
        arguments = [key for key in run.model if key != "name"]
        run.model = {"name": name, **{key: getattr(typed.model, key) for key in arguments}}
    return run


def _schema_of(name: str) -> type[RunConfig]:
    """`RunConfig` with the constructor of a model as the schema of `model`."""
    defaults = model_arguments(name)
    columns = [("name", str, field(default=name))]
    for key, hint in argument_types(name).items():
        if key != "name":
            columns.append((key, *_column(hint, defaults[key])))
    arguments = make_dataclass(f"{name} model", columns)
    return make_dataclass(
        RunConfig.__name__,
        [("model", arguments, field(default_factory=arguments))],
        bases=(RunConfig,),
        namespace={"__module__": __name__},
    )


def _column(hint: Any, default: Any) -> tuple[Any, Any]:
    """Type and default of a setting; of any type where OmegaConf does not know the constructor's."""
    if default is inspect.Parameter.empty:
        hint, default = hint | None, None
    column = hint, field(default_factory=lambda: default)
    try:
        OmegaConf.structured(make_dataclass("Try", [("value", *column)]))
    except (OmegaConfBaseException, TypeError, ValueError):
        return Any, field(default=None)
    return column


def _nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} -> {"a": {"b": 1}}."""
    result: dict[str, Any] = {}
    for key, value in flags.items():
        *groups, last = key.split(".")
        place = result
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return result


def replayable(run: RunConfig) -> str:
    """The run as YAML that starts it from its first step, whatever later releases have as defaults."""
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
