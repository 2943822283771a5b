"""Tasks in which the instruction says which of several objects is meant: requests, and what they lead to.

A request is what an instruction may ask for, "red" or "red_left". The latent of an episode is the index of
its request, which no observation shows. So one scene can be asked for each of its requests:

    envs.task.ask("red")      # all episodes that begin from now on ask for this one
    envs.task.ask(None)       # each asks for the one that its seed draws
    envs.task.say("grasp the red one")   # the same as "red", in words of the caller

`info` says which object is meant, "wanted", and which one the hand came near to first, "approached" (-1 for
none yet). Both are (n,) and count in the order of `objects`. Evaluation reads following from these two; an
environment of another package may report them as well.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import mujoco

from simscaleai.array_types import EnvIds
from simscaleai.errors import unknown_name
from simscaleai.sim.arrays import Array, array_namespace, norm
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import Controller
from simscaleai.sim.tasks.latent import LatentTask

NEW_COMBINATION = "new_combination"  # a choice of phrasings


class InstructedTask(LatentTask):
    """Stands before the task that it changes: `class ReachColor(InstructedTask, Reach)`.

    Attributes:
      requests: what an instruction may ask for, in the order of the latent; see `Task`.
      new_requests: further ones, which no episode draws: new combinations of words, for evaluation.
      words: {request: {field: word}} that complete the sentences in `instructions` and `held_out`.
      approach_distance: m between the tool center point and an object that counts as near; less than half
        of the smallest gap between two objects, so that one at most is near.
    """

    new_requests: ClassVar[tuple[str, ...]] = ()
    words: ClassVar[Mapping[str, Mapping[str, str]]]
    approach_distance: ClassVar[float] = 0.05
    # 1 + the index of the object, since task state starts at 0
    task_state = {"approached": int}

    def __init__(self, model: mujoco.MjModel, controller: Controller) -> None:
        super().__init__(model, controller)
        self._asked: str | None = None
        self._drawn = self.requests  # those that an episode may draw

    @abstractmethod
    def objects(self, sim: Sim) -> Array:
        """Centers of the m objects that an instruction may mean, (n, m, 3) m in the world frame."""

    def wanted(self, sim: Sim | None = None) -> Array:
        """Return the index in `objects` of the one that each instruction means, (n,) int64.

        By default that of the environment's own simulations, as `latent`.
        """
        return self.latent(sim)

    @property
    def all_requests(self) -> tuple[str, ...]:
        """`requests` and then `new_requests`: the latent is an index into these."""
        return (*self.requests, *self.new_requests)

    def ask(self, request: str | None) -> None:
        if request is not None and request not in self.all_requests:
            raise unknown_name(f"request of the task {self.name!r}", request, self.all_requests)
        self._asked = request

    def say(self, sentence: str | None) -> bool:
        """Fix the instruction, as `Task.say`; episodes ask for the request that the sentence names."""
        super().say(sentence)
        request = None if sentence is None else self.request_in(sentence)
        self.ask(request)
        return sentence is None or request is not None

    def request_in(self, sentence: str) -> str | None:
        """Return the request whose words are in a sentence; None if it is none, or more than one."""
        said = _words(sentence)
        found = [r for r in self.all_requests if _words(*self.words[r].values()) <= said]
        return found[0] if len(found) == 1 else None

    def ask_now(self, sim: Sim, env_ids: EnvIds) -> None:
        """Let the present episodes of `env_ids` ask for what `ask` says; as if nothing was touched yet."""
        if self._asked is None:  # they keep what they have drawn
            return
        sim.mocap_pos[env_ids, self._latent_id, 0] = self.all_requests.index(self._asked)
        for name in InstructedTask.task_state:
            sim.task_state[name][env_ids] = 0

    def drawn_request(self, u: Array) -> Array:
        """Return the latents (k,) for uniform numbers u (k,): what `ask` says, else one at random."""
        if self._asked is not None:
            return 0.0 * u + self.all_requests.index(self._asked)
        first = self.all_requests.index(self._drawn[0])
        return first + array_namespace(u).floor(u * len(self._drawn))

    def use_phrasings(self, name: str) -> None:
        """Take instructions from those of "train"ing data, "held_out" ones, or "new_combination".

        The last asks for one of `new_requests` in the words of training. Errors as of `Task.use_phrasings`.
        """
        super().use_phrasings(name)
        self._drawn = self._requests(name)

    def phrasings(self, name: str = "train") -> dict[str, tuple[str, ...]]:
        sentences = self._sentences(name)
        return {
            request: tuple(sentence.format(**self.words[request]) for sentence in sentences)
            for request in self._requests(name)
        }

    def _requests(self, name: str) -> tuple[str, ...]:
        """Return what sentences of this choice ask for."""
        return self.new_requests if name == NEW_COMBINATION else self.requests

    def _phrasing_choices(self) -> dict[str, tuple[str, ...]]:
        # new combinations in the words of training data: the words themselves are known
        new = {NEW_COMBINATION: self.instructions} if self.new_requests else {}
        return super()._phrasing_choices() | new

    def instruct(self, sim: Sim, env_id: int, seed: int, episode: int) -> str:
        sentence = super().instruct(sim, env_id, seed, episode)
        if self._said is not None:  # it has no fields, and may have braces
            return sentence
        request = self.all_requests[int(self.latent(sim)[env_id])]
        return sentence.format(**self.words[request])

    def post_step(self, sim: Sim) -> None:
        super().post_step(sim)
        xp, state = sim.xp, sim.task_state["approached"]
        hand = sim.site_xpos[:, self.controller.site, :]  # (n, 3)
        distance = norm(self.objects(sim) - hand[:, None, :])  # (n, m)
        nearest = xp.argmin(distance, axis=1)
        is_near = xp.min(distance, axis=1) < self.approach_distance
        state[:] = xp.where((state == 0) & is_near, nearest + 1, state)

    def info(self, sim: Sim) -> dict[str, Array]:
        measured = super().info(sim)  # type: ignore[safe-super] # that of the next base
        approached = sim.task_state["approached"] - 1  # a new array; -1 for none
        return {**measured, "wanted": self.wanted(sim), "approached": approached}


def _words(*texts: str) -> set[str]:
    return set(re.findall(r"\w+", " ".join(texts).lower()))
