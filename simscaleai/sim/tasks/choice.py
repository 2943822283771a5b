"""Tasks of which an episode draws something that the observation does not show.

What was drawn is the x coordinate of the mocap body "choice", which has no shape. So it is a part of the
physical state: recorded states, `get_state` and replays carry it along. Only the task and its expert look
at it. To a policy it is said in words (`sim.tasks.colors`), or not at all (`sim.tasks.reach_around`).

Trap: therefore such a task's expert acts for the rows of the environment whose task made it, and no others.
"""

from __future__ import annotations

import mujoco
import numpy as np

from simscaleai.sim.arrays import Array, array_namespace
from simscaleai.sim.physics import EnvIds, Sim
from simscaleai.sim.task import Task


class ChoiceTask(Task):
    """See the module docstring; `mocap_bodies` of a subclass name "choice" too."""

    def __init__(self, model: mujoco.MjModel, control_dt: float, ik: str = "dls") -> None:
        super().__init__(model, control_dt, ik)
        self._choice = self.mocap_id("choice")

    def begin(self, sim: Sim, rows: EnvIds) -> None:
        super().begin(sim, rows)
        self._sim = sim  # an environment has one, of which its expert sees more than observations

    def latent(self, choice: Array) -> dict[int, Array]:
        """Where "choice" is to be for `choice` (k,): {mocap id: (k, 3)}."""
        place = np.zeros((len(choice), 3))
        place[:, 0] = choice
        return {self._choice: place}

    def choice(self, sim: Sim | None = None) -> Array:
        """What the episodes of all rows drew, (n,) int64; by default of the environment's own."""
        drawn = (self._sim if sim is None else sim).mocap_pos[:, self._choice, 0]
        xp = array_namespace(drawn)
        return xp.astype(drawn, xp.int64)
