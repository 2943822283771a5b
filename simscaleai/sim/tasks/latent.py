"""Tasks whose episodes draw a latent: a value that the observation does not show.

The latent is the x coordinate of the mocap body "latent", which has no shape. It is therefore part of the
physical state, and recorded states, `get_state` and replays contain it. Only the task and its expert read
it. A policy gets it from the instruction (`sim.tasks.colors`), or not at all (`sim.tasks.reach_around`).

Trap: the expert of such a task acts only for the environment of the task that made it. It must call
`latent()` for every action, so that `assume` can label a state for every instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mujoco
import numpy as np

from simscaleai.array_types import EnvIds
from simscaleai.policy import Policy
from simscaleai.sim.arrays import Array, array_namespace, columns, like
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import Controller
from simscaleai.sim.task import Task


class LatentTask(Task):
    """See the module docstring; `mocap_bodies` of a subclass name "latent" too."""

    def __init__(self, model: mujoco.MjModel, controller: Controller) -> None:
        super().__init__(model, controller)
        self._latent_id = self.mocap_id("latent")
        self._assumed: Array | None = None

    def begin(self, sim: Sim, env_ids: EnvIds) -> None:
        super().begin(sim, env_ids)
        self._sim = sim  # the latents are no observation, so the expert reads them here

    def place_latent(self, values: Array) -> dict[int, Array]:
        """Return positions {mocap id: (k, 3)} of the body "latent" for latents (k,)."""
        xp = array_namespace(values)
        x = xp.astype(values, xp.float64)
        zero = xp.zeros_like(x)
        return {self._latent_id: columns(x, zero, zero)}

    def latent(self, sim: Sim | None = None) -> Array:
        """Return the latents of all envs, (n,) int64.

        By default they are the environment's own, or those that `assume` has put in their place.
        """
        if sim is None and self._assumed is not None:
            return self._assumed
        drawn = (self._sim if sim is None else sim).mocap_pos[:, self._latent_id, 0]
        xp = array_namespace(drawn)
        return xp.astype(drawn, xp.int64)

    @contextmanager
    def assume(self, latents: Array) -> Iterator[None]:
        """Let experts act as if the latents (n,) were these; nothing in the simulation changes."""
        self._assumed = latents
        try:
            yield
        finally:
            self._assumed = None

    def actions_by_instruction(self, expert: Policy, obs: Mapping[str, Array]) -> Array:
        first = next(iter(obs.values()))
        actions = []
        for latent in range(len(self.phrasings())):
            with self.assume(like(np.full(first.shape[0], latent), first)):
                actions.append(expert.act(obs))  # (n, action_dim)
        return array_namespace(first).stack(actions, axis=1)  # (n, K, action_dim)
