"""Which arrays of our datasets are which features of a LeRobot dataset.

Vectors make up `observation.state`, in the order in which models read them, and `action` has the names of its
entries. RGB images are `observation.images.<camera>`. Everything else is a column `simscale.<key>`, which no
policy of LeRobot reads: physics states, depth, segmentation, labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simscaleai.array_types import Array, ArrayDict
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.observations import is_image
from simscaleai.storage.episode import NEXT_OBS, OBS
from simscaleai.storage.episode_source import EpisodeSource
from simscaleai.storage.lerobot.layout import (
    ACTION,
    DONE,
    IMAGES,
    PRIVATE,
    REWARD,
    STATE,
    Feature,
    default_features,
)

_NAMED = {"actions": ACTION, "rewards": REWARD, "dones": DONE}


@dataclass(frozen=True)
class LeRobotColumns:
    """The features of a dataset, and the arrays that they are made of.

    Attributes:
      features: {feature: what it is}, without those that every dataset has.
      state: [(key of a vector, shape of a step)], in the order of `observation.state`.
      images: {feature: observations that it holds}; `image` is the image of its camera once more.
      arrays: {feature: key} of the others.
    """

    features: dict[str, Feature]
    state: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    images: dict[str, list[str]] = field(default_factory=dict)
    arrays: dict[str, str] = field(default_factory=dict)
    _features_by_path: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data: EpisodeSource, *, video: bool) -> LeRobotColumns:
        """Return the columns of an open dataset, by its first episode.

        Raises:
          UserError: an image cannot be stored as video.
        """
        columns = cls({})
        # an episode with steps: an empty one may lack arrays or have other shapes
        i = data.example
        for key in data.keys(i):
            shape, dtype = data.shape(i, key)[1:], data.dtype(i, key)
            if key.startswith(NEXT_OBS):
                continue  # the next frame has it
            if not key.startswith(OBS):
                columns._add_array(_NAMED.get(key, PRIVATE + key), key, shape, dtype)
            # LeRobot's policies read one vector, so all of ours are put side by side
            elif not is_image(name := key.removeprefix(OBS), shape, dtype):
                columns.state.append((name, shape or (1,)))
            elif dtype == np.uint8 and len(shape) == 3 and shape[2] == 3:
                columns._add_image(name, data.path_of(key), shape, video, str(data.path))
            else:
                # depth and segmentation: LeRobot's images are RGB, and would lose their values
                columns._add_array(PRIVATE + key.replace("/", "."), key, shape, dtype)
        if columns.state:
            columns.features[STATE] = Feature("float32", (columns.width,), columns._state_names())
        columns._name_actions(data.contract)
        return columns

    @property
    def width(self) -> int:
        """Entries of `observation.state`."""
        return sum(math.prod(shape) for _, shape in self.state)

    def all_features(self) -> dict[str, Feature]:
        return {**self.features, **default_features()}

    def _add_array(
        self, feature: str, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.arrays[feature] = key
        self.features[feature] = Feature(dtype.name, shape or (1,))

    def _add_image(
        self, name: str, path: str, shape: tuple[int, ...], video: bool, source: str
    ) -> None:
        # two observations with one place in the file are one image: `image` and that of its camera
        if path in self._features_by_path:
            self.images[self._features_by_path[path]].append(name)
            return
        camera = path.rpartition("/")[2].removesuffix("_image") or "image"
        feature = IMAGES + camera.replace(".", "_")
        while feature in self.images:  # such as "front" and "front_image"
            feature += "_"
        self._features_by_path[path] = feature
        if video and (shape[0] % 2 or shape[1] % 2):
            raise UserError(
                f"{source}: {name!r} has {shape[0]} x {shape[1]} pixels, and a video needs even numbers of"
                " them; export without --video."
            )
        self.images[feature] = [name]
        self.features[feature] = Feature(
            "video" if video else "image", shape, ["height", "width", "channels"]
        )

    def _state_names(self) -> list[str]:
        """Return a name for each entry of `observation.state`, such as "ee_pos_0"."""
        return [
            key if math.prod(shape) == 1 else f"{key}_{k}"
            for key, shape in self.state
            for k in range(math.prod(shape))
        ]

    def _name_actions(self, contract: EnvContract | None) -> None:
        width = math.prod(self.features[ACTION].shape)
        known = contract.action_names if contract is not None else ()
        # another number of names would label the wrong entries
        names = list(known) if len(known) == width else [f"action_{k}" for k in range(width)]
        self.features[ACTION] = Feature(
            self.features[ACTION].dtype, self.features[ACTION].shape, names
        )

    def split(self, columns: Mapping[str, Array]) -> ArrayDict:
        """Return {key of an episode: array} for the features of an episode, `columns`.

        Raises:
          ValueError: the shapes do not fit.
        """
        found: ArrayDict = {}
        if self.state:
            start = 0
            for key, shape in self.state:
                stop = start + math.prod(shape)
                vectors = columns[STATE][:, start:stop]  # (T, width of this vector)
                found[OBS + key] = vectors.reshape(len(vectors), *shape)
                start = stop
        for feature, names in self.images.items():
            # one array under each of its names, not a copy
            found |= {OBS + name: columns[feature] for name in names}
        for feature, key in self.arrays.items():
            values = columns[feature]
            # a scalar of each step has the shape (1,) in LeRobot, and none here
            scalar = values.shape[1:] == (1,) and key in ("rewards", "dones")
            found[key] = values[:, 0] if scalar else values
        return found

    def to_dict(self) -> JsonDict:
        """Return JSON values; `from_dict` gives the columns back."""
        return {
            "state": [[key, list(shape)] for key, shape in self.state],
            "images": self.images,
            "arrays": self.arrays,
        }

    @classmethod
    def from_dict(cls, values: JsonDict, features: Mapping[str, Feature]) -> LeRobotColumns:
        """Return the inverse of `to_dict`; errors of any type for what does not fit `features`."""
        columns = cls(
            dict(features),
            [(str(key), tuple(int(n) for n in shape)) for key, shape in values["state"]],
            {str(f): [str(n) for n in names] for f, names in values["images"].items()},
            {str(f): str(key) for f, key in values["arrays"].items()},
        )
        if columns.state and features[STATE].shape != (columns.width,):
            raise ValueError("a state of another width")
        for feature in (*columns.images, *columns.arrays):
            if features[feature].is_image != (feature in columns.images):
                raise ValueError(f"{feature} of another type")
        return columns

    @classmethod
    def foreign(cls, features: Mapping[str, Feature]) -> LeRobotColumns:
        """Return the columns of a dataset that another program wrote."""
        columns = cls(dict(features))
        for name, feature in features.items():
            # everything else, such as language columns, has no place in an episode of ours
            if name.startswith("observation."):
                short = name.removeprefix("observation.")
                if feature.is_image:
                    camera = short.removeprefix("images.").removeprefix("image.")
                    columns.images[name] = ["image" if camera == "image" else f"images/{camera}"]
                elif feature.is_number:
                    columns.arrays[name] = OBS + short.replace(".", "/")
            elif feature.is_number and name in (ACTION, REWARD, DONE):
                columns.arrays[name] = {value: key for key, value in _NAMED.items()}[name]
        # models read the first camera as `image` too
        if columns.images and ["image"] not in columns.images.values():
            next(iter(columns.images.values())).append("image")
        return columns


def flat_state(arrays: Mapping[str, Array], keys: Sequence[str]) -> Array:
    """Return the vectors `keys` of an episode side by side, (T, d) float32."""
    steps = len(arrays["actions"])
    vectors = [arrays[OBS + key].reshape(steps, -1).astype(np.float32) for key in keys]
    # the order of `keys` is that in which `split` cuts them apart again
    return np.concatenate(vectors, axis=1)
