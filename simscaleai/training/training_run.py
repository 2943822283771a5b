"""Training runs from settings alone, as `simscale train` starts them.

train_policy(TrainConfig(dataset_path="data/reach.h5", max_steps=1000))
policy = ModelPolicy.from_checkpoint("checkpoints/final.pt")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from simscaleai import seeding
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.models.declarations import Declared, describe_model, obs_keys, uses_language
from simscaleai.models.features import relative, state_width
from simscaleai.models.normalization import Normalizer
from simscaleai.models.policy import ModelPolicy
from simscaleai.models.registry import create_model, model_arguments
from simscaleai.models.sizes import within_memory
from simscaleai.models.vision import image_keys
from simscaleai.observations import ObsSpec, image_problem, is_image_key
from simscaleai.storage.episodes import EpisodeSource, open_dataset
from simscaleai.tensor_types import Batch
from simscaleai.tracking import write_run_info
from simscaleai.training.data.dataset import (
    DataSpec,
    DummyTrajectoryDataset,
    TrajectoryDataset,
    read_spec,
)
from simscaleai.training.data.loader import make_loader
from simscaleai.training.data.spec import picture_keys
from simscaleai.training.instruction_check import InstructionCheck
from simscaleai.training.run_config import RunConfig, replayable
from simscaleai.training.train_config import TrainConfig
from simscaleai.training.trainer import Trainer

AnyDataset = TrajectoryDataset | DummyTrajectoryDataset


def train_policy(
    config: TrainConfig, eval_fn: Callable[[ModelPolicy], object] | None = None
) -> dict[str, float]:
    """Train the configured model on the configured dataset; return the last metrics.

    The policy is written to `<checkpoint_dir>/final.pt`, from which `ModelPolicy.from_checkpoint` builds it.

    Args:
      config: the settings.
      eval_fn: called with the policy every `eval_every` steps, for closed-loop evaluation; returns a
        number or a dict of numbers.

    Raises:
      UserError: settings, model and dataset do not fit together.
    """
    return run_trainer(build_trainer(config, eval_fn), RunConfig.of(config))


def run_trainer(trainer: Trainer, run: RunConfig) -> dict[str, float]:
    """Train, with the settings recorded in the run's folder; return the last metrics.

    Args:
      trainer: made by `build_trainer` from `run.train_config()`.
      run: the settings that are written to `config.yaml`, those of evaluation included.
    """
    # The arguments that the model was made with, those from the dataset and from a preset included.
    assert isinstance(trainer.model, ModelPolicy)
    about = describe_model(trainer.model.model)
    name, arguments = about["model_name"], about["model_kwargs"]
    resolved = replace(run, model={"name": name, **arguments})
    processes = Processes.from_environment()
    with trainer.run.at_work():
        trainer.run.archive_earlier(trainer.step)
        if processes.is_main:
            text, device = replayable(resolved), str(trainer.device)
            write_run_info(trainer.folder, text, trainer.step, device, processes.size)
        return trainer.train()


def build_trainer(
    config: TrainConfig, eval_fn: Callable[[ModelPolicy], object] | None = None
) -> Trainer:
    """Return the trainer of `train_policy`, before its first step."""
    config.check()  # before the dataset is read
    processes = Processes.from_environment()
    model, train, valid = _model_and_data(config)
    actions = train.action_range
    policy = ModelPolicy(
        model,
        train.spec.obs,
        _normalizer(model, train, config),
        train.contract,
        config.relative_positions,
        actions,
    )

    def loader(data: AnyDataset, batch_size: int, shuffle: bool) -> DataLoader[Batch]:
        return make_loader(
            data,
            batch_size,
            config.seed,
            num_workers=config.num_workers,
            shuffle=shuffle,
            pin_memory=config.resolved_device.startswith("cuda"),
            rank=processes.rank,
            world_size=processes.size,
        )

    local_batch_size = max(config.batch_size // processes.size, 1)
    batches = loader(train, local_batch_size, True)
    # Samples without images are small, and larger batches of them are evaluated faster.
    valid_size = local_batch_size if train.spec.obs.image_keys else max(local_batch_size, 1024)
    valid_batches = loader(valid, valid_size, False) if valid is not None and len(valid) else None
    trainer = Trainer(policy, batches, config, valid_batches, eval_fn)
    if check := _instruction_check(model, train, valid):
        trainer.checks.append(check)
    if actions is not None:
        trainer.announce(
            f"Actions leave [-1, 1]: they are normalized, and the policy acts within {actions}."
        )
    return trainer


def _instruction_check(
    model: nn.Module, train: AnyDataset, valid: AnyDataset | None
) -> InstructionCheck | None:
    """Return the check whether the policy listens, on unseen episodes if there are enough of them."""
    if not uses_language(model):
        return None
    for data in (valid, train):
        if isinstance(data, TrajectoryDataset) and (check := InstructionCheck.of(data)):
            return check
    return None


def _model_and_data(config: TrainConfig) -> tuple[nn.Module, AnyDataset, AnyDataset | None]:
    """Return a model that fits the data, and training and validation data with what the model reads."""
    if not config.dataset_path:
        if config.show_progress and Processes.from_environment().is_main:
            Console(stderr=True).print("No dataset was given: training on synthetic data.")
        model = _create(config, config.model_kwargs)
        return model, _synthetic(model, config), None
    with open_dataset(config.dataset_path, config.images) as file:
        # First the model, for the shapes of all the data; then only the data that the model reads.
        everything = read_spec(file, _selected_keys(file, config.state_keys))
        model = _create(config, _fitted_arguments(config, everything))
        options: JsonDict = {
            "seq_len": getattr(model, "action_horizon", 1),
            "obs_steps": getattr(model, "n_obs_steps", 1),
            "obs_keys": _keys_to_load(model, everything, config),
            "include_language": uses_language(model),
            "cache_mb": config.cache_mb,
            "relabel": _relabel(model, config),
            "seed": config.seed,
            "privileged_keys": _privileged_keys(model, file, config),
        }
        train, valid = (
            TrajectoryDataset(file, split=split, **options) for split in ("train", "valid")
        )
    return model, train, valid


def _relabel(model: nn.Module, config: TrainConfig) -> float:
    """Return `config.relabel`; UserError if the model does not read the instructions that it draws."""
    if config.relabel and not uses_language(model):
        raise UserError(
            f"data.relabel is {config.relabel} and the model {config.model_name!r} reads no instruction; set"
            " it to 0, or use a model that does, such as 'vla'."
        )
    return config.relabel


def _selected_keys(file: EpisodeSource, state_keys: list[str] | None) -> list[str] | None:
    """Return the observations to learn from: the vectors `state_keys` and every image; None for all."""
    if state_keys is None:
        return None
    images = picture_keys(file)
    if wrong := [k for k in state_keys if k in images]:
        raise UserError(
            f"state_keys names {', '.join(wrong)}; it takes vectors, and images are chosen by the model's"
            " `use_image` or `cameras`."
        )
    return [*state_keys, *images]


def _normalizer(model: nn.Module, train: AnyDataset, config: TrainConfig) -> Normalizer:
    """Return the normalizer that the model declares to need, with the statistics of the training data."""
    modes = Declared.of(model).modes
    if train.action_range is not None and modes["actions"] == "identity":
        # Models end in tanh or a clamp to [-1, 1], and these actions go beyond it.
        modes = {**modes, "actions": "min_max"}
    wanted = ["state"] if train.state_dim else []
    if modes["actions"] != "identity":
        wanted.append("actions")
    features = relative(train.spec.obs, config.relative_positions)
    statistics = train.statistics(features) if wanted else {}
    return Normalizer({key: statistics[key] for key in wanted}, modes)


def _create(config: TrainConfig, kwargs: JsonDict) -> nn.Module:
    """Return a model whose initial weights depend on the seed alone; UserError if it is too large."""
    with torch.random.fork_rng():
        torch.manual_seed(seeding.derive_seed(config.seed, "weights"))
        given = ", ".join(f"{key}={value}" for key, value in config.model_kwargs.items())
        what = f"The model {config.model_name!r}" + (f" with {given}" if given else "")
        with within_memory(what):
            return create_model(config.model_name, **kwargs)


def _fitted_arguments(config: TrainConfig, spec: DataSpec) -> JsonDict:
    """Return `model_kwargs`, with the dimensions of the data for the arguments that are not given.

    Raises:
      UserError: the arguments given contradict the data; lists every difference.
    """
    state_dim = state_width(spec.obs, config.relative_positions)
    facts: JsonDict = {"state_dim": state_dim, "action_dim": spec.action_dim}
    if shapes := _image_shapes(config.model_kwargs.get("cameras"), spec.obs):
        height, width, channels = shapes[0]
        facts |= {"image_channels": channels, "in_channels": channels}
        if height == width:  # `image_size` is the side of a square
            facts["image_size"] = height
    given = config.model_kwargs
    # A state_dim of 0 contradicts nothing: it means to learn from images alone.
    wrong = [
        f"{k} is {given[k]}, the dataset has {v}"
        for k, v in facts.items()
        if given.get(k, v) != v and not (k == "state_dim" and given[k] == 0)
    ]
    if wrong:
        raise UserError(
            f"The settings of model {config.model_name!r} do not fit {config.dataset_path!r}: "
            + "; ".join(wrong)
            + "; leave them out to take them from the dataset."
        )
    accepted = model_arguments(config.model_name)
    return {**{k: v for k, v in facts.items() if k in accepted}, **given}


def _keys_to_load(model: nn.Module, spec: DataSpec, config: TrainConfig) -> list[str]:
    """Return the observations to load: images that the model reads, and all vectors if it reads any.

    A model that does not declare what it reads gets all of them.
    """
    available = list(spec.obs.shapes)
    wanted = obs_keys(model)
    if wanted is None:
        return available
    # "state" stands for all vectors; a dataset has it if it has any.
    missing = [
        k for k in wanted if k not in available and not (k == "state" and spec.obs.state_keys)
    ]
    images = spec.obs.image_keys
    if missing:
        raise UserError(
            f"The model {config.model_name!r} reads {', '.join(missing)}, which"
            f" {config.dataset_path!r} does not have; it has {', '.join(available)}."
            + _suggest_image(missing, images)
        )
    _check_images(model, spec.obs, [k for k in images if k in wanted and is_image_key(k)], config)
    reads_vectors = any(k not in images for k in wanted)
    return [k for k in available if (k in wanted if k in images else reads_vectors)]


def _privileged_keys(model: nn.Module, file: EpisodeSource, config: TrainConfig) -> list[str]:
    """Return the positions that the model learns from besides actions; UserError if the file lacks one."""
    keys = Declared.of(model).privileged_keys
    i = file.example
    positions = [k for k in file.obs_keys if file.shape(i, f"obs/{k}")[1:] == (3,)]
    if missing := [key for key in keys if key not in positions]:
        raise UserError(
            f"The model {config.model_name!r} learns from positions {', '.join(missing)}, which"
            f" {config.dataset_path!r} does not have; its positions are"
            f" {', '.join(positions) or 'none'}: choose `auxiliary` from these, or leave it out."
        )
    return list(keys)


def _suggest_image(missing: Sequence[str], images: Sequence[str]) -> str:
    """Return the sentence that suggests an image of the dataset for a missing camera, or ""."""
    cameras = [k.removeprefix("images/") for k in missing if is_image_key(k)]
    unnamed = [k for k in images if not is_image_key(k)]  # of another tool, with names of its own
    if not cameras or not unnamed:
        return ""
    return f" Name it by 'data.images={{{cameras[0]}: {unnamed[0]}}}'."


def _image_shapes(cameras: Sequence[str] | None, spec: ObsSpec) -> list[tuple[int, ...]]:
    """Return the shapes of the images that a model can read, only those of `cameras` if there are any."""
    keys = image_keys(False, cameras) or [k for k in spec.image_keys if k.startswith("image")]
    shapes = {k: spec.shapes[k] for k in keys if k in spec.shapes}
    return [s for k, s in shapes.items() if image_problem(k, s, spec.dtypes[k]) is None]


def _check_images(
    model: nn.Module, spec: ObsSpec, keys: Sequence[str], config: TrainConfig
) -> None:
    """Raise one UserError with every image in `keys` whose shape or dtype the model cannot read."""
    wrong = [image_problem(key, spec.shapes[key], spec.dtypes[key]) for key in keys]
    found = [problem for problem in wrong if problem]
    wanted = Declared.of(model).image_shape
    if not found and wanted is not None:
        channels, *sides = wanted
        for key in keys:  # a dataset has (height, width, channels)
            expected = (*(a or b for a, b in zip(sides, spec.shapes[key], strict=False)), channels)
            if spec.shapes[key] != expected:
                found.append(f"{key!r} is {spec.shapes[key]}, and the model reads {expected}")
    if found:
        raise UserError(
            f"The model {config.model_name!r} cannot read the images of {config.dataset_path!r}: "
            + "; ".join(found)
            + ". Convert them, or learn from other observations."
        )


def _synthetic(model: nn.Module, config: TrainConfig) -> DummyTrajectoryDataset:
    """Return synthetic samples of the shapes that the model's arguments describe."""
    arguments = {**model_arguments(config.model_name), **config.model_kwargs}
    size = arguments.get("image_size", 128)
    images = [key for key in obs_keys(model) or () if is_image_key(key)]
    return DummyTrajectoryDataset(
        obs_dim=arguments.get("state_dim", 20),
        action_dim=arguments.get("action_dim", 4),
        image_size=(size, size),
        include_image=bool(images),
        image_keys=images,
        include_language=uses_language(model),
        seed=config.seed,
        seq_len=getattr(model, "action_horizon", 1),
        obs_steps=getattr(model, "n_obs_steps", 1),
        privileged_keys=Declared.of(model).privileged_keys,
    )
