"""From a dataset to a model that fits it: dimensions, normalization, and the data that the model reads."""

from __future__ import annotations

import torch
from rich.console import Console
from torch import nn

from simscaleai import seeding
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.models.declarations import Declared, obs_keys, uses_language
from simscaleai.models.features import relative, state_width
from simscaleai.models.normalization import Normalizer
from simscaleai.models.registry import create_model, model_arguments
from simscaleai.models.sizes import within_memory
from simscaleai.observations import is_image_key
from simscaleai.storage.episodes import EpisodeSource, open_dataset
from simscaleai.training.data.dataset import (
    DataSpec,
    DummyTrajectoryDataset,
    TrajectoryDataset,
    read_spec,
)
from simscaleai.training.data.drawn_frames import Draw, Drawer
from simscaleai.training.model_inputs import (
    keys_to_load,
    privileged_keys,
    readable_shapes,
    selected_keys,
)
from simscaleai.training.train_config import TrainConfig

AnyDataset = TrajectoryDataset | DummyTrajectoryDataset


def model_and_data(
    config: TrainConfig, draw: Draw | None = None
) -> tuple[nn.Module, AnyDataset, AnyDataset | None]:
    """Return a model that fits the data, and training and validation data with what the model reads.

    `draw` draws the images of `config.render_cameras`.
    """
    if not config.dataset_path:
        if config.show_progress and Processes.from_environment().is_main:
            Console(stderr=True).print("No dataset was given: training on synthetic data.")
        model = _create(config, config.model_kwargs)
        return model, _synthetic(model, config), None
    with open_dataset(config.dataset_path, config.images) as file:
        # First the model, for the shapes of all the data; then only the data that the model reads.
        drawer = _drawer(file, config, draw)
        everything = read_spec(file, selected_keys(file, config.state_keys, drawer), drawer)
        model = _create(config, _fitted_arguments(config, everything))
        options: JsonDict = {
            "seq_len": getattr(model, "action_horizon", 1),
            "obs_steps": getattr(model, "n_obs_steps", 1),
            "obs_keys": keys_to_load(model, everything, config),
            "include_language": uses_language(model),
            "cache_mb": config.cache_mb,
            "relabel": _relabel(model, config),
            "seed": config.seed,
            "drawer": drawer,
            "privileged_keys": privileged_keys(model, file, config),
        }
        train, valid = (
            TrajectoryDataset(file, split=split, **options) for split in ("train", "valid")
        )
    return model, train, valid


def _drawer(file: EpisodeSource, config: TrainConfig, draw: Draw | None) -> Drawer | None:
    """Return what draws the images of `config.render_cameras`; UserError if nothing that draws was given."""
    if not config.render_cameras:
        return None
    if draw is None:
        raise UserError(
            f"data.render names {', '.join(config.render_cameras)}, and no function that draws was given;"
            " pass draw=simscaleai.datagen.draw_images."
        )
    return draw(file, config.render_cameras, config.render_size)


def _relabel(model: nn.Module, config: TrainConfig) -> float:
    """Return `config.relabel`; UserError if the model does not read the instructions that it draws."""
    if config.relabel and not uses_language(model):
        raise UserError(
            f"data.relabel is {config.relabel} and the model {config.model_name!r} reads no instruction; set"
            " it to 0, or use a model that does, such as 'vla'."
        )
    return config.relabel


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
    if shapes := readable_shapes(config.model_kwargs.get("cameras"), spec.obs):
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


def make_normalizer(model: nn.Module, train: AnyDataset, config: TrainConfig) -> Normalizer:
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
