"""Perturbations between policy and simulation: of actions, of observations and of instructions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import FloatArray
from simscaleai.errors import UserError
from simscaleai.evaluation.stress_core import Perturbation
from simscaleai.observations import is_image_key
from simscaleai.sim.core import ObsDict, TaskCore
from simscaleai.sim.physics import EnvIds

_LONG_WORD = 4  # letters that a word with a typo has at least


class ActionDelay(Perturbation):
    """Executes each action `level` control steps late; until then the arm holds still."""

    stream = "stress action delay"

    def prepare(self, core: TaskCore) -> None:
        (width,) = core.action_space.shape
        self._waiting = np.zeros((int(self.level), core.sim.n, width))  # oldest first

    def change_states(self, core: TaskCore, env_ids: EnvIds) -> None:
        self._waiting[:, env_ids] = 0.0  # an action of zeros holds still

    def change_actions(self, core: TaskCore, actions: FloatArray) -> FloatArray:
        queue = np.concatenate([self._waiting, actions[None]])  # (level + 1, n, action_dim)
        self._waiting = queue[1:]
        executed: FloatArray = queue[0]
        return executed


class ActionNoise(Perturbation):
    """Adds Gaussian noise to actions, of a standard deviation of `level`."""

    stream = "stress action noise"

    def change_actions(self, core: TaskCore, actions: FloatArray) -> FloatArray:
        noise = self.step_noise(core, core.action_space.shape)
        return np.clip(actions + self.level * noise, core.action_space.low, core.action_space.high)


class SensorNoise(Perturbation):
    """Adds Gaussian noise to all numbers that are observed, of `level` m, rad, or their own unit."""

    stream = "stress sensor noise"

    def change_observations(self, core: TaskCore, obs: ObsDict) -> ObsDict:
        keys = sorted(key for key in obs if not is_image_key(key))
        widths = [obs[key].shape[1] for key in keys]
        noise = np.split(self.step_noise(core, (sum(widths),)), np.cumsum(widths)[:-1], axis=1)
        noisy = dict(obs)
        for key, part in zip(keys, noise, strict=True):
            noisy[key] = (obs[key] + self.level * part).astype(obs[key].dtype)
        return noisy


class ImageCorruption(Perturbation):
    """Adds pixel noise of `level` times white, and hides a square with sides of `level` times the image."""

    stream = "stress image"

    def change_observations(self, core: TaskCore, obs: ObsDict) -> ObsDict:
        corrupted, done = dict(obs), {}
        for key in sorted(obs):
            image = obs[key]
            if not is_image_key(key) or image.dtype != np.uint8:
                continue
            # `image` is one of `images/...`, and stays so
            if id(image) not in done:
                done[id(image)] = self._corrupted(core, image)
            corrupted[key] = done[id(image)]
        return corrupted

    def _corrupted(self, core: TaskCore, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        noise = self.step_noise(core, (2 + int(np.prod(images.shape[1:])),))  # (n, 2 + pixels)
        pixels = images + 255 * self.level * noise[:, 2:].reshape(images.shape)
        noisy = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
        height, width = images.shape[1:3]
        side = round(self.level * min(height, width))
        # the first two numbers say where the square is, by the normal distribution's own shape
        place = 1 / (1 + np.exp(-noise[:, :2]))  # (n, 2) in (0, 1)
        corners = (place * (height - side, width - side)).astype(int)
        for image, (row, column) in zip(noisy, corners, strict=True):
            image[row : row + side, column : column + side] = 128
        return noisy


class InstructionWording(Perturbation):
    """Asks in other words: at level 1 in phrasings that no dataset has, at level 2 with typos as well."""

    stream = "stress wording"

    def prepare(self, core: TaskCore) -> None:
        words = getattr(core.task, "words", {})
        # what is asked for has to remain readable
        self._kept = {word for entry in words.values() for word in entry.values()}

    def change_instruction(self, core: TaskCore, env_id: int, instruction: str) -> str:
        if self.level < 1:
            return instruction
        core.task.use_phrasings("held_out")
        assert core.seeds is not None
        episode = int(core.episodes[env_id])
        other = core.task.instruct(core.sim, env_id, core.seeds[env_id], episode)
        if self.level < 2:
            return other
        rng = self.generator(core, env_id)
        return " ".join(w if w in self._kept else _typo(w, rng) for w in other.split(" "))


class Counterfactual(Perturbation):
    """Asks every scene for the request number `level`, whatever it was drawn for; at level 0 as drawn."""

    stream = "stress counterfactual"

    def prepare(self, core: TaskCore) -> None:
        requests = core.task.requests
        if self.level > len(requests):
            raise UserError(
                f"The task {core.task.name!r} has {len(requests)} requests ({', '.join(requests)}), and none"
                f" of number {self.level:g}; give levels from 1 to {len(requests)}."
            )
        core.task.ask(requests[int(self.level) - 1] if self.level else None)


def _typo(word: str, rng: np.random.Generator) -> str:
    """Return a word with two neighboring letters swapped, if it is long enough."""
    if len(word) < _LONG_WORD:
        return word
    k = int(rng.integers(1, len(word) - 2))  # the first letter stays, which readers go by
    return word[:k] + word[k + 1] + word[k] + word[k + 2 :]
