"""Draw the recorded states of episodes, with the randomization that was recorded or a new one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simscaleai import seeding
from simscaleai.array_types import ArrayDict, FloatArray
from simscaleai.contract import EnvContract
from simscaleai.datagen.recipe import is_model, model_sha256
from simscaleai.datagen.recorded_states import BATCH, in_batches
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.json_types import JsonDict
from simscaleai.observations import is_image_key
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.randomization import Randomizer
from simscaleai.sim.spaces import camera_observations
from simscaleai.sim.task_setup import task_randomizer
from simscaleai.storage.episode import LABELS, OBS, Episode
from simscaleai.storage.episodes import EpisodeSource

_ORIGIN = ("policy", "mujoco_version", "model_sha256")


class EpisodeRenderer:
    """Draws the episodes of datasets that `contract` made; `settings` are `SimConfig` fields.

    Args:
      randomize: level of new colors and lights; None for the recorded ones.
      seed: of new colors and lights.
    """

    def __init__(
        self, contract: EnvContract, settings: Mapping[str, Any], randomize: str | None, seed: int
    ) -> None:
        self.env = make_vec_env(contract.env_name, BATCH, **{**contract.env_config, **settings})
        self.contract = self.env.contract
        self._randomize, self._seed = randomize, None if randomize is None else seed
        self._randomizer: Randomizer | None = None
        self._drawn_models: dict[str, str] = {}
        if randomize is not None or self.env.config.domain_randomization:
            self._randomizer = task_randomizer(self.env.task, self.env.sim, randomize or "default")

    def drawn_model(self, recorded: str) -> str:
        """Return the hash of the model that is drawn for episodes of a recorded one.

        The same if it is unchanged.
        """
        if recorded not in self._drawn_models:
            same = is_model(self.env.model, recorded)
            self._drawn_models[recorded] = recorded if same else model_sha256(self.env.model)
        return self._drawn_models[recorded]

    def recipe(self, data: EpisodeSource) -> JsonDict:
        """Return everything that decides the content of the output."""
        return {
            "rendered_from": data.attribute("content_hash", ""),
            "randomize": self._randomize,
            "seed": self._seed,
            "environment": self.contract.to_dict(),
            "model_sha256": model_sha256(self.env.model),
        }

    def origin(self, data: EpisodeSource, i: int) -> JsonDict:
        """Return what made episode i as attributes of its copy: policy, version, and the model drawn."""
        found = {key: str(data.episode_attribute(i, key, "")) for key in _ORIGIN}
        return {**found, "model_sha256": self.drawn_model(found["model_sha256"])}

    def episode(self, data: EpisodeSource, i: int) -> Episode:
        """Return episode i of `data` with new images; `origin` is not in it."""
        name = f"{data.path}: {data.episodes[i].name}"
        with guarded(name, "run `simscale validate` on it"):
            return self._episode(data, i)

    def _episode(self, data: EpisodeSource, i: int) -> Episode:
        columns: JsonDict = {key: data.read(i, key) for key in data.keys(i) if not _is_image(key)}
        obs = {k.removeprefix(OBS): v for k, v in columns.items() if k.startswith(OBS)}
        meta = data.episodes[i]
        randomization = self._apply_randomization(
            json.loads(data.episode_attribute(i, "randomization", "{}")), meta.seed or 0
        )
        return Episode(
            obs={**obs, **self._images(columns["states"])},
            **{key: columns[key] for key in ("actions", "rewards", "dones", "states")},
            actions_by_instruction=columns.get(LABELS),
            index=i,
            seed=meta.seed or 0,
            success=bool(meta.success),
            language=meta.language,
            randomization=randomization,
        )

    @property
    def randomized(self) -> bool:
        """Whether episodes differ in more than their states."""
        return self._randomizer is not None

    def draw(self, states: FloatArray, drawn: Sequence[JsonDict]) -> ArrayDict:
        """Return images (n, H, W, ...) of states (n, nstate), n > 0, of any episodes.

        `drawn` is what randomization drew for the episode of each; empty if nothing was randomized.
        """
        if self._randomizer is None:
            return self._images(states)
        parts: list[ArrayDict] = []
        for start in range(0, len(states), BATCH):
            looks = [self._complete(recorded) for recorded in drawn[start : start + BATCH]]
            # the env always has `BATCH` envs; the rest of them repeats the last one
            self._apply(looks + looks[-1:] * (BATCH - len(looks)))
            parts.append(self._images(states[start : start + BATCH]))
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def close(self) -> None:
        self.env.close()

    def _apply_randomization(self, recorded: JsonDict, episode_seed: int) -> JsonDict:
        """Apply the randomization of an episode to all envs; return {parameter: value}."""
        if self._randomizer is None:
            return recorded
        self._complete(recorded)  # refuses what is not known
        # looks only: what acts on the physics stays as it was recorded
        if self._seed is not None:
            rng = seeding.generator(self._seed, "looks", episode_seed)
            draws = self._randomizer.draw(rng.random((1, self._randomizer.num_uniforms)))
            fresh = {name: draws[name][0].tolist() for name in self._randomizer.visual_parameters}
            recorded = {**recorded, **fresh}
        self._apply([self._complete(recorded)] * BATCH)
        return recorded

    def _complete(self, recorded: JsonDict) -> ArrayDict:
        """Return {parameter: value} of an episode for all parameters; those that were not drawn are 0."""
        assert self._randomizer is not None
        known = {p.name: np.zeros(len(p.width)) for p, _ in self._randomizer.parameters}
        if unknown := sorted(recorded.keys() - known.keys()):
            raise UserError(
                f"The dataset was randomized in {unknown[0]!r}, which this version does not know;"
                " generate the data again."
            )
        return {**known, **{name: np.array(value) for name, value in recorded.items()}}

    def _apply(self, drawn: Sequence[ArrayDict]) -> None:
        """Apply to each env, `BATCH` of them, what was drawn for it."""
        assert self._randomizer is not None
        stacked = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
        self._randomizer.apply_to_model(np.arange(BATCH), stacked)

    def _images(self, states: FloatArray) -> ArrayDict:
        """Return {key: (T, H, W, ...)} of all cameras at `states` (T, nstate)."""
        config = self.env.config
        batches = []
        for batch in in_batches(states):
            self.env.sim.load_states(batch)
            images = self.env.render_cameras(config.observe_depth, config.observe_segmentation)
            batches.append(camera_observations(images))
        return {
            k: np.concatenate([batch[k] for batch in batches])[: len(states)] for k in batches[0]
        }


def _is_image(key: str) -> bool:
    return key.startswith(OBS) and is_image_key(key.removeprefix(OBS))
