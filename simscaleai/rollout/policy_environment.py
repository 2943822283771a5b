"""Find the environment for a policy: that of its data, or a named one with the cameras that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.observations import is_image_key
from simscaleai.sim.base_env import CameraConfig, SimConfig
from simscaleai.sim.factory import env_config, make_vec_env
from simscaleai.sim.scene_cameras import scene_cameras

if TYPE_CHECKING:
    from simscaleai.models.policy import ModelPolicy

Shapes = Mapping[str, tuple[int, ...]]
Settings = dict[str, object]
"""Fields of a `SimConfig` by name."""


def policy_environment(
    contract: EnvContract | None,
    env_name: str | None = None,
    randomize: str | None = None,
    images: Shapes | None = None,
    robot: str | None = None,
    env_kwargs: Mapping[str, object] | None = None,
) -> tuple[str, SimConfig]:
    """Return name and settings of the environment that a policy was trained for, or of `env_name`.

    Args:
      contract: that of the policy; None if it was not trained on data of an environment.
      env_name: another environment.
      randomize: randomization level; None for none, even if the data had one.
      images: images that a policy without a contract reads, {key: (H, W, ...)}; the
        cameras that they come from are switched on.
      robot: name of another robot; None for that of the data, or the default one.
      env_kwargs: further fields of `SimConfig`, which stand above those of the data.

    Raises:
      UserError: neither says which environment, or its scene lacks a camera.
    """
    name = env_name or (contract.env_name if contract is not None else None)
    if name is None:
        raise UserError(
            "The checkpoint does not say which environment its policy is for; name it with --env-name."
        )
    settings: Settings = dict(contract.env_config) if contract is not None else {}
    # evaluation chooses its own level: that of the data would hide how a policy does without
    settings["domain_randomization"] = randomize is not None
    if randomize is not None:
        settings["randomization_level"] = randomize
    if contract is not None and not any(is_image_key(key) for key in contract.obs_shapes):
        settings["cameras"] = []
    if contract is None and images:
        settings |= _camera_settings(name, images)
    if robot is not None:
        settings["robot"] = robot
    if contract is not None and name != contract.env_name:
        settings.pop("xml_path", None)  # the scene belongs to the other task
    return name, env_config(name, **{"cameras": [], **settings, **(env_kwargs or {})})


def image_shapes(policy: ModelPolicy) -> dict[str, tuple[int, ...]]:
    """Return the images that a policy reads, {key: (H, W, ...)}."""
    if policy.spec is not None:
        return {key: policy.spec.shapes[key] for key in policy.spec.image_keys}
    name, given = getattr(policy.model, "registered", (None, {}))
    if name is None:
        return {}
    from simscaleai.models.registry import model_arguments

    size = {**model_arguments(name), **given}.get("image_size", 128)
    keys = getattr(policy.model, "obs_keys", None) or ()
    return {key: (size, size, 3) for key in keys if is_image_key(key)}


def _camera_settings(env_name: str, images: Shapes) -> Settings:
    """Return the settings with which an environment observes `images`."""
    # the scene is only known once it is loaded
    env = make_vec_env(env_name, 1, cameras=[])
    known = [env.model.camera(i).name for i in range(env.model.ncam)]
    env.close()
    if not known:
        raise UserError(
            f"The policy reads {', '.join(images)}, and the scene of {env_name!r} has no camera."
        )
    named = [key.partition("/")[2] for key in images if "/" in key]
    names = list(dict.fromkeys(named))
    if not names:
        default = CameraConfig().name
        names = [default if default in known else known[0]]
    elif len(names) == 1 and any(key.startswith("images/") for key in images):
        names += [other for other in known if other not in names][:1]  # one alone is `image`
    # a model reads images of one size
    height, width = next(iter(images.values()))[:2]
    cameras = scene_cameras(env_name, names, width)
    for camera in cameras:
        camera.height = height
    return {
        "cameras": cameras,
        "observe_depth": any(key.startswith("depth/") for key in images),
        "observe_segmentation": any(key.startswith("segmentation/") for key in images),
    }
