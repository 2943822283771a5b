"""Names of observations in a file, chosen so that robomimic and similar tools can read them.

Environments name images `image`, `images/<camera>`, `depth/<camera>` and `segmentation/<camera>`. A tool that
expects a flat list of arrays in /data/demo_0/obs does not read groups, and the camera `arm/wrist` would
become two nested groups. In the file the names are `<camera>_image`, `<camera>_depth` (H, W, 1) and
`<camera>_segmentation` (H, W, 1), with "_" for "/". They follow from the contract in the file, so that no
mapping has to be stored. An array under the name of the observation itself, as earlier versions wrote it,
is read as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from simscaleai.contract import EnvContract

_SUFFIX = {"images": "image", "depth": "depth", "segmentation": "segmentation"}
_FLAT = ("depth", "segmentation")  # (H, W), stored with a channel


def file_names(contract: EnvContract) -> dict[str, str]:
    """Return {observation: name in a file}; `image` gets the name of its camera if the contract names one."""
    cameras = contract.env_config.get("cameras") or []
    first = cameras[0].get("name") if cameras and isinstance(cameras[0], Mapping) else None
    names = {key: key for key in contract.obs_shapes if "/" not in key}
    if "image" in names and isinstance(first, str):
        del names["image"]
    for key in sorted(contract.obs_shapes.keys() - names.keys() - {"image"}):
        kind, _, camera = key.partition("/")
        suffix = _SUFFIX.get(kind)
        name = key.replace("/", "_") if suffix is None else f"{camera.replace('/', '_')}_{suffix}"
        while name in names.values():  # such as cameras "a/b" and "a_b"
            name += "_"
        names[key] = name
    if "image" in contract.obs_shapes and "image" not in names:
        own = f"{str(first).replace('/', '_')}_image"
        while f"images/{first}" not in names and own in names.values():
            own += "_"
        names["image"] = names.get(f"images/{first}", own)
    return names


def has_channel(key: str) -> bool:
    """Return whether an observation (H, W) is stored as (H, W, 1)."""
    return key.startswith(tuple(f"{kind}/" for kind in _FLAT))
