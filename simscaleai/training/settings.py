"""A run as a YAML file describes it: what `simscale train` and `simscale sweep` are given.

    name: pick_place
    seed: 1
    data: {path: data/pick_place.h5}
    model: {name: bc, hidden_dim: 512}
    trainer: {lr: 1e-3, max_steps: 12000}
    eval: {env_episodes: 50}

`RunConfig` is the schema. `trainer` holds the fields of `TrainConfig` that stand nowhere else, and `model`
the arguments of the model of that name with the types of its constructor: nothing is declared twice.
`RunConfig.train_config()` is the same run as the flat `TrainConfig`, which knows no `eval`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simscaleai.config import load_config, to_yaml
from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.models.registry import argument_types, model_arguments, takes_anything
from simscaleai.tracking.folder import check_path_in_file
from simscaleai.training.config import TrainConfig

_FOLDER = "trainer.checkpoint_dir"
# Fields of TrainConfig that stand outside `trainer`.
_ELSEWHERE = {
    *("run_name", "seed", "dataset_path", "images", "state_keys", "relative_positions"),
    *("num_workers", "cache_mb", "model_name", "model_kwargs"),
}
_TRAINER = [f for f in fields(TrainConfig) if f.name not in _ELSEWHERE]

if TYPE_CHECKING:
    TrainerSettings = Any
else:
    _hints = get_type_hints(TrainConfig)
    TrainerSettings = make_dataclass(
        "TrainerSettings",
        [(f.name, _hints[f.name], field(default=f.default)) for f in _TRAINER],
        bases=(Converted,),
        namespace={"__module__": __name__},  # so that it can be sent to other processes
    )


@dataclass
class DataSettings(Converted):
    """What is learned from.

    Attributes:
      path: HDF5 file of episodes; "" trains on made-up data.
      images: {camera: observation}, pictures of another tool's file; see `TrainConfig`.
      state_keys: the vectors that make up the state; None for all.
      relative_positions: positions as offsets from the hand; see `models.features`.
      num_workers: processes that read images.
      cache_mb: MiB of memory for images; None for what the machine can spare, 0 for none.
    """

    path: str = TrainConfig.dataset_path
    images: dict[str, str] | None = None
    state_keys: list[str] | None = None
    relative_positions: bool = TrainConfig.relative_positions
    num_workers: int = TrainConfig.num_workers
    cache_mb: float | None = TrainConfig.cache_mb


@dataclass
class EvalSettings(Converted):
    """Evaluation in closed loop at every evaluation of the run.

    Attributes:
      env_episodes: episodes in the environment that the dataset names; 0 for none.
      seed: which suite of episodes; the same one every time.
      num_envs: simulations at once; by default as many as there are episodes, at most 128.
      randomize: randomization level; None for none, whatever the data had.
    """

    env_episodes: int = 0
    seed: int = 0
    num_envs: int | None = None
    randomize: str | None = None


@dataclass
class RunConfig(Converted):
    """A training run in groups; see the module.

    Attributes:
      name: the run's folder is `runs/<name>`; without one it is `trainer.checkpoint_dir`.
      seed: decides initial weights, data order and dropout.
      data, eval: see their classes.
      model: `name`, and arguments of that model.
      trainer: every other field of `TrainConfig`.
    """

    name: str | None = TrainConfig.run_name
    seed: int = TrainConfig.seed
    data: DataSettings = field(default_factory=DataSettings)
    model: dict[str, Any] = field(default_factory=lambda: {"name": TrainConfig.model_name})
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    eval: EvalSettings = field(default_factory=EvalSettings)

    def train_config(self) -> TrainConfig:
        """The same settings without groups."""
        arguments = dict(self.model)
        return TrainConfig(
            run_name=self.name,
            seed=self.seed,
            dataset_path=self.data.path,
            images=self.data.images,
            state_keys=self.data.state_keys,
            relative_positions=self.data.relative_positions,
            num_workers=self.data.num_workers,
            cache_mb=self.data.cache_mb,
            model_name=arguments.pop("name", TrainConfig.model_name),
            model_kwargs=arguments,
            **vars(self.trainer),
        )

    @classmethod
    def of(cls, config: TrainConfig) -> RunConfig:
        """Inverse of `train_config`."""
        return cls(
            name=config.run_name,
            seed=config.seed,
            data=DataSettings(
                config.dataset_path,
                config.images,
                config.state_keys,
                config.relative_positions,
                config.num_workers,
                config.cache_mb,
            ),
            model={"name": config.model_name, **config.model_kwargs},
            trainer=TrainerSettings(**{f.name: getattr(config, f.name) for f in _TRAINER}),
        )


def load_run(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> RunConfig:
    """A run from a YAML file, then `key=value` words, then `flags` by dotted name.

    The folder that words or flags give wins over a name in the file. One in the file stays within the working
    folder, or is the folder that the file itself is in: the file may be somebody else's.

    Raises:
      UserError: an unknown key, model or argument of that model, a value of the wrong type, or a folder that
        a file may not name.
    """
    values = _nested(flags or {})
    run = load_config(RunConfig, path, overrides, **values)
    said = {*(flags or {}), *(word.partition("=")[0] for word in overrides)}
    if _FOLDER in said:
        if "name" in said and run.name is not None:
            raise UserError(
                f"Both a name and {_FOLDER} were given, and each says which folder the run has; give one."
            )
        run.name = None
    elif path is not None:
        folder = run.trainer.checkpoint_dir
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
        given = [key for key in run.model if key != "name"]
        run.model = {"name": name, **{key: getattr(typed.model, key) for key in given}}
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
            trainer=replace(run.trainer, resume_from=None),
        )
    )
