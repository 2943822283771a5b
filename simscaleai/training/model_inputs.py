"""Which observations of a dataset a model reads, and whether it can; errors name both."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from simscaleai.errors import UserError
from simscaleai.models.declarations import Declared, obs_keys
from simscaleai.models.vision import image_keys
from simscaleai.observations import ObsSpec, image_problem, is_image_key
from simscaleai.storage.episodes import EpisodeSource
from simscaleai.training.data.dataset import (
    DataSpec,
)
from simscaleai.training.data.drawn_frames import Drawer
from simscaleai.training.data.spec import picture_keys
from simscaleai.training.train_config import TrainConfig


def selected_keys(
    file: EpisodeSource, state_keys: list[str] | None, drawer: Drawer | None = None
) -> list[str] | None:
    """Return the observations to learn from: the vectors `state_keys` and every image; None for all."""
    if state_keys is None:
        return None
    images = picture_keys(file, drawer)
    if wrong := [k for k in state_keys if k in images]:
        raise UserError(
            f"state_keys names {', '.join(wrong)}; it takes vectors, and images are chosen by the model's"
            " `use_image` or `cameras`."
        )
    return [*state_keys, *images]


def keys_to_load(model: nn.Module, spec: DataSpec, config: TrainConfig) -> list[str]:
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


def privileged_keys(model: nn.Module, file: EpisodeSource, config: TrainConfig) -> list[str]:
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


def readable_shapes(cameras: Sequence[str] | None, spec: ObsSpec) -> list[tuple[int, ...]]:
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
