"""What one sample of a dataset holds."""

from __future__ import annotations

from dataclasses import dataclass

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError, unknown_name
from simscaleai.observations import ObsSpec, is_image, state_problem
from simscaleai.storage.episodes import EpisodeSource
from simscaleai.training.data.drawn_frames import Drawer


@dataclass(frozen=True)
class DataSpec:
    """What one sample of a dataset holds; `obs` describes the raw observations, not `state`."""

    obs: ObsSpec
    action_dim: int
    contract: EnvContract | None = None


def picture_keys(data: EpisodeSource, drawer: Drawer | None = None) -> list[str]:
    """Return the observations of a dataset that are images, those that `drawer` draws included."""
    i = data.example
    recorded = [
        key
        for key in data.obs_keys
        if is_image(key, data.shape(i, f"obs/{key}")[1:], data.dtype(i, f"obs/{key}"))
    ]
    return sorted({*recorded, *(drawer.shapes if drawer is not None else ())})


def read_spec(
    data: EpisodeSource, obs_keys: list[str] | None = None, drawer: Drawer | None = None
) -> DataSpec:
    """Return what samples with `obs_keys` (all by default) will hold; vectors are (d,) float32.

    Images that `drawer` draws stand above recorded ones of the same name.

    Raises:
      UserError: the file has no such observation, or an array of no use as one.
    """
    drawn = {} if drawer is None else drawer.shapes
    known = sorted({*data.obs_keys, *drawn})
    if not known:
        raise UserError(
            f"{data.path} holds no observations to learn from; record or convert it with some, as /obs/<key>."
        )
    for key in obs_keys or ():
        if key not in known:
            raise unknown_name(f"observation of {data.path}:", key, known)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for key in sorted(obs_keys or known):
        # before the file is asked, which may have no such array
        if drawer is not None and key in drawn:
            shapes[key], dtypes[key] = drawer.shapes[key], drawer.dtypes[key]
            continue
        shape, dtype = (
            data.shape(data.example, f"obs/{key}")[1:],
            data.dtype(data.example, f"obs/{key}"),
        )
        if is_image(key, shape, dtype):
            shapes[key], dtypes[key] = shape, str(dtype)
        elif problem := state_problem(key, shape):
            raise UserError(
                f"{data.path}: {problem}; choose the vectors to learn from with data.state_keys."
            )
        else:
            # a number per step is a vector of one entry
            shapes[key], dtypes[key] = shape or (1,), "float32"
    action_shape = data.shape(data.example, "actions")[1:]
    if len(action_shape) != 1 or action_shape[0] == 0:
        raise UserError(
            f"{data.path}: an action has shape {action_shape}; expected a vector of at least one number."
        )
    # a drawer's cameras are not in the recorded contract; evaluation needs them to render the same
    contract = data.contract if drawer is None else drawer.contract
    return DataSpec(ObsSpec(shapes, dtypes), action_shape[0], contract)
