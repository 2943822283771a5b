"""Draw the images of a dataset when they are asked for: what a dataset of states needs to train from images.

    drawer = draw_images(data, ["wrist_cam", "front_cam"], 64)
    drawer.draw(np.array([3, 700]), np.array([0, 12]))     # {"images/wrist_cam": (2, 64, 64, 3), ...}

A dataset holds the physics state before every action and what domain randomization drew, and an image
depends on nothing else. Promise: the images are those that `datagen --cameras` records and `simscale
render` draws, byte by byte (with the same engine and versions).
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simscaleai.array_types import Array, ArrayDict, IntArray
from simscaleai.datagen.episode_renderer import EpisodeRenderer
from simscaleai.datagen.recorded_states import check_states, recorded_contract
from simscaleai.json_types import JsonDict
from simscaleai.observations import is_image_key
from simscaleai.sim.scene_cameras import scene_cameras
from simscaleai.storage.episode_file import EpisodeFile, open_file
from simscaleai.storage.episodes import EpisodeSource, ShardedDataset
from simscaleai.storage.shard_reader import ShardReader
from simscaleai.storage.step_reader import StepReader

DEFAULT_SIZE = 64
_KEPT_FILES = 64  # whose randomization stays in memory


def draw_images(data: EpisodeSource, cameras: Sequence[str], image_size: int = 0) -> DrawnImages:
    """Return what draws the images of `cameras` for the episodes of an open dataset.

    Args:
      data: of `simscale datagen`; it may be closed afterwards.
      cameras: names; the first gives `image`, and of several each gives `images/<camera>`.
      image_size: pixels per side; 0 for those that `datagen --states-only` noted, or else `DEFAULT_SIZE`.

    Raises:
      UserError: the dataset does not say in which environment it was made, or its scene has changed since.
    """
    contract = recorded_contract(data, "drawn")
    size = image_size or int(noted_cameras(data).get("image_size", DEFAULT_SIZE))
    settings = {**contract.env_config, "cameras": []}
    settings = {"cameras": scene_cameras(contract.env_name, cameras, size, **settings)}
    return DrawnImages(data, settings)


def noted_cameras(data: EpisodeSource) -> JsonDict:
    """Return {"cameras", "image_size"} that `datagen --states-only` noted in a dataset; {} for none."""
    try:
        recipe = json.loads(data.attribute("recipe", "{}"))
        return dict(recipe.get("render") or {})
    except (TypeError, ValueError, AttributeError, RecursionError):  # of another tool
        return {}


class DrawnImages:
    """Draws steps of a dataset, many at a time, each in an env of its own.

    Args:
      data: an open dataset.
      settings: `SimConfig` fields: the cameras.

    Attributes:
      shapes, dtypes: of the images.
      contract: of the environment with the cameras.
    """

    def __init__(self, data: EpisodeSource, settings: JsonDict) -> None:
        self._settings, self._recorded = settings, recorded_contract(data, "drawn")
        # a path and not the open file, which the caller may close
        self._source = data if isinstance(data, ShardedDataset) else data.path
        everything = list(range(len(data)))
        self._states: ShardReader | StepReader
        if isinstance(data, ShardedDataset):
            lengths = data.lengths
            self._states = ShardReader(data, everything, ["states"])
        else:
            assert isinstance(data, EpisodeFile)
            lengths = np.array([e.length for e in data.episodes], np.int64)
            self._states = StepReader(data, everything, "states")
        self._starts = np.cumsum(lengths) - lengths  # (episodes,)
        self._own: tuple[int, EpisodeRenderer] | None = None
        self._drawn: OrderedDict[Path, list[JsonDict]] = OrderedDict()
        renderer = self._renderer()
        check_states(data, renderer.env)
        self.contract = renderer.contract
        shapes, dtypes = self.contract.obs_shapes, self.contract.obs_dtypes
        self.shapes = {k: shape for k, shape in shapes.items() if is_image_key(k)}
        self.dtypes = {k: dtypes[k] for k in self.shapes}

    def draw(self, episodes: IntArray, steps: IntArray) -> ArrayDict:
        """Return {observation: (B, H, W, C)} of steps (B,), each of an episode (B,)."""
        renderer = self._renderer()
        states = self._read_states(self._starts[episodes] + steps)  # (B, nstate)
        looks = self._randomization(episodes) if renderer.randomized else []
        images = renderer.draw(states, looks)
        return {k: images[k] for k in self.shapes}

    def _read_states(self, steps: IntArray) -> Array:
        if isinstance(self._states, ShardReader):
            return self._states.read("states", steps)
        return self._states.read(steps)

    def _randomization(self, episodes: IntArray) -> list[JsonDict]:
        """Return {parameter: value} of episodes (B,)."""
        found = []
        for i in episodes.tolist():
            if isinstance(self._source, ShardedDataset):
                shard, position = self._source.shard_of(i)
                path = self._source.shard_path(shard)
            else:
                path, position = self._source, i
            found.append(self._of_file(path)[position])
        return found

    def _of_file(self, path: Path) -> list[JsonDict]:
        """Return what was drawn for the episodes of a file: read once for all of them."""
        if path not in self._drawn:
            with open_file(path) as file:
                self._drawn[path] = [
                    json.loads(file.episode_attribute(i, "randomization", "{}"))
                    for i in range(len(file))
                ]
            # the one that was asked for longest ago goes first
            while len(self._drawn) > _KEPT_FILES:
                self._drawn.popitem(last=False)
        self._drawn.move_to_end(path)
        return self._drawn[path]

    def _renderer(self) -> EpisodeRenderer:
        """Return the renderer of this process: neither threads nor OpenGL survive a fork."""
        if self._own is None or self._own[0] != os.getpid():
            self._own = os.getpid(), EpisodeRenderer(self._recorded, self._settings, None, 0)
        return self._own[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_own": None}
