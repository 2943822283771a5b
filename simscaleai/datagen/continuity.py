"""Check that each recorded state follows from the one before: physics was not reset in mid-episode.

Time is the first number of a state. How positions and velocities follow it is known for the scenes of
registered environments; a dataset's own scene is not loaded, for it may be anyone's.
"""

from __future__ import annotations

import mujoco
import numpy as np

from simscaleai.array_types import Array
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.sim.factory import make_vec_env
from simscaleai.storage.episode import SCENE_PATH

TIME_SLACK = 1e-6  # s
# A joint may have been faster within a step than at its ends, by a blow, say: this much is taken for one.
TIMES = 10.0
SPEED_SLACK = 5.0  # m/s or rad/s


class Continuity:
    """Checks the states of a dataset with that contract; without one nothing is known about them."""

    def __init__(self, contract: EnvContract | None) -> None:
        self.contract = contract
        self._columns = None if contract is None else _columns(contract)

    def error(self, states: Array) -> str | None:
        """Return what is wrong with the time of an episode's states (T, d); None if nothing is."""
        if self.contract is None or not _numbers(states):
            return None
        passed = np.diff(states[:, 0])
        if (passed < 0).any():
            return "the simulated time runs back: the physics was reset in mid-episode"
        if len(passed) and np.abs(passed - self.contract.control_dt).max() > TIME_SLACK:
            return f"the simulated time does not advance by {self.contract.control_dt} s a step"
        return None

    def jumps(self, states: Array) -> bool:
        """Return whether a joint moves further in one step than its speed before and after it explains."""
        if self.contract is None or self._columns is None or not _numbers(states):
            return False
        positions, velocities, width = self._columns
        if states.shape[1] != width:
            return False
        needed = np.abs(np.diff(states[:, positions], axis=0)) / self.contract.control_dt
        speed = np.abs(states[:, velocities])
        fastest = np.maximum(speed[:-1], speed[1:])
        return bool((needed > TIMES * fastest + SPEED_SLACK).any())


def _numbers(states: Array) -> bool:
    """Return whether this can be an array of states; files of other tools may hold anything."""
    return states.dtype.kind == "f" and states.ndim == 2 and states.shape[1] > 0


def _columns(contract: EnvContract) -> tuple[list[int], list[int], int] | None:
    """Return the columns of joint positions and velocities in a state, and its width; None if unknown.

    Orientations of free and ball joints are left out.
    """
    if contract.env_config.get(SCENE_PATH):
        return None
    try:
        env = make_vec_env(contract.env_name, 1, robot=contract.env_config.get("robot", "panda"))
    except UserError:  # not registered here
        return None
    model, width = env.model, env.states().shape[1]
    env.close()
    numbers = {mujoco.mjtJoint.mjJNT_FREE: 3, mujoco.mjtJoint.mjJNT_BALL: 0}
    positions: list[int] = []
    velocities: list[int] = []
    for j in range(model.njnt):
        for k in range(numbers.get(mujoco.mjtJoint(int(model.jnt_type[j])), 1)):
            positions.append(1 + int(model.jnt_qposadr[j]) + k)
            velocities.append(1 + model.nq + int(model.jnt_dofadr[j]) + k)
    return positions, velocities, width
