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
from simscaleai.sim.physics import Rows, Sim
from simscaleai.sim.task import Task


class ChoiceTask(Task):
    """See the module docstring; `bodies` of a subclass name "choice" too."""

    def __init__(self, model: mujoco.MjModel, control_dt: float, ik: str = "dls") -> None:
        super().__init__(model, control_dt, ik)
        self._choice = int(model.body("choice").mocapid[0])

    def begin(self, sim: Sim, rows: Rows) -> None:
        super().begin(sim, rows)
        self._sim = sim  # an environment has one, of which its expert sees more than observations

    def mocap(self, places: dict[int, Array], choice: Array) -> Array:
        """`mocap_pos` (k, nmocap, 3) of the scene with `choice` (k,), and {mocap id: (k, 3)} in places."""
        start = np.zeros((len(choice), self.model.nmocap, 3))
        start[:, self._choice, 0] = choice
        for index, place in places.items():
            start[:, index] = place
        return start

    def choice(self, sim: Sim | None = None) -> Array:
        """What the episodes of all rows drew, (n,) int64; by default of the environment's own."""
        drawn = (self._sim if sim is None else sim).mocap_pos[:, self._choice, 0]
        xp = array_namespace(drawn)
        return xp.astype(drawn, xp.int64)
