"""Names of observations in a file, chosen so that robomimic and similar tools can read them.

Environments name images `image`, `images/<camera>`, `depth/<camera>` and `segmentation/<camera>`. A tool that
expects a flat list of arrays in /data/demo_0/obs does not read groups, and the camera `arm/wrist` would
become two nested groups. In the file the names are `<camera>_image`, `<camera>_depth` (H, W, 1) and
`<camera>_segmentation` (H, W, 1), with "_" for "/". They follow from the contract in the file, so that no
mapping has to be stored. An array under the name of the observation itself, as earlier versions wrote it,
is read as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from simscaleai.contract import EnvContract
from simscaleai.errors import unknown_name
from simscaleai.storage.episode import NEXT_OBS, OBS
from simscaleai.storage.hdf5_chunks import Chunks

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


class KeyPaths:
    """Where the arrays of an episode are, below its group in a file.

    Args:
      contract: of the environment that made the file; None where the file does not say.
      paths: of the observations there are, below the folder of observations.
      images: {camera: observation} to be read as `images/<camera>`; see `episodes.open_dataset`.
      obs_folder: of observations: "obs", or "observations" in the plain layout.
      source: what errors call the file.

    Attributes:
      paths: {observation: its path below the folder of observations}.

    Raises:
      UserError: `images` names an observation that is not there.
    """

    def __init__(
        self,
        contract: EnvContract | None,
        paths: Sequence[str],
        images: Mapping[str, str] | None = None,
        obs_folder: str = OBS[:-1],
        source: str = "the file",
    ) -> None:
        self._contract, self._obs = contract, obs_folder
        named = dict[str, str]()
        if contract is not None:
            for key, name in file_names(contract).items():
                if key in paths or name in paths:
                    named[key] = key if key in paths else name
        taken = set(named.values())
        # what the contract does not list keeps the name it has in the file
        named |= {path: path for path in paths if path not in taken}
        self.paths = named | self._renamed(named, dict(images or {}), source)

    @staticmethod
    def _renamed(named: dict[str, str], images: dict[str, str], source: str) -> dict[str, str]:
        """Take what `images` names out of `named`; return it under the names of its cameras."""
        for observation in images.values():
            if observation not in named:
                raise unknown_name(f"observation of {source} in data.images:", observation, named)
        found = {
            camera if camera == "image" else f"images/{camera}": named[observation]
            for camera, observation in images.items()
        }
        for observation in images.values():
            # after all are looked up: two cameras may name the same observation
            named.pop(observation, None)
        if found and "image" not in named | found:
            found["image"] = next(iter(found.values()))
        return found

    def keys_of(self, path: str) -> list[str]:
        """Return the observations that a path of the file holds."""
        return [key for key, place in self.paths.items() if place == path] or [path]

    def path_of(self, key: str) -> str:
        """Return the path of an array, such as "obs/wrist_cam_image" for "obs/images/wrist_cam"."""
        for prefix, folder in ((OBS, self._obs), (NEXT_OBS, NEXT_OBS[:-1])):
            if key.startswith(prefix):
                name = key.removeprefix(prefix)
                return f"{folder}/{self.paths.get(name, name)}"
        return key

    def step_shape(self, key: str, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one step: images stored as (H, W, 1) are (H, W) if the contract says so."""
        name = key.removeprefix(OBS).removeprefix(NEXT_OBS)
        flat = self._contract is not None and self._contract.obs_shapes.get(name) == stored[:-1]
        return stored[:-1] if flat and stored[-1:] == (1,) and has_channel(name) else stored

    def with_step_shape(self, key: str, chunks: Chunks) -> Chunks:
        """Return the chunks of an array with the shape of a step that `read` gives."""
        steps, *stored = chunks.layout.shape
        shape = (steps, *self.step_shape(key, tuple(stored)))
        return replace(chunks, layout=replace(chunks.layout, shape=shape))
