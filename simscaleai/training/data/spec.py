"""What one sample of a dataset holds."""

from __future__ import annotations

from dataclasses import dataclass

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError, unknown_name
from simscaleai.observations import ObsSpec, is_image_key
from simscaleai.storage.episodes import EpisodeFile


@dataclass(frozen=True)
class DataSpec:
    """What one sample of a dataset holds; `obs` describes the raw observations, not `state`."""

    obs: ObsSpec
    action_dim: int
    contract: EnvContract | None = None


def read_spec(data: EpisodeFile, obs_keys: list[str] | None = None) -> DataSpec:
    """What samples with `obs_keys` (all by default) will hold; vectors are (d,) float32.

    Raises:
      UserError: the file has no such observation, or an array of no use as one.
    """
    for key in obs_keys or ():
        if key not in data.obs_keys:
            raise unknown_name(f"observation of {data.path}:", key, data.obs_keys)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for key in sorted(obs_keys or data.obs_keys):
        shape = data.shape(0, f"obs/{key}")[1:]
        if is_image_key(key):
            shapes[key], dtypes[key] = shape, str(data.dtype(0, f"obs/{key}"))
        elif len(shape) <= 1:
            shapes[key], dtypes[key] = shape or (1,), "float32"
        else:
            raise UserError(
                f"{data.path}: the observation {key!r} has rows of shape {shape}, neither vectors nor"
                " an image (whose name begins with `image`); leave it out with obs_keys."
            )
    action_shape = data.shape(0, "actions")[1:]
    if len(action_shape) != 1:
        raise UserError(f"{data.path}: an action has shape {action_shape}; expected a vector.")
    return DataSpec(ObsSpec(shapes, dtypes), action_shape[0], data.contract)
