"""One simulation as arrays with a leading axis of 1, on one `MjData`."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from simscaleai.array_types import Array, BoolArray, EnvIds, FloatArray, IntArray
from simscaleai.rendering.render_state import RenderState
from simscaleai.sim.copies import copy_data
from simscaleai.sim.physics import FIELDS, REPLAY_STATE, MuJoCoSim, instabilities

# with warm starts of the solver, which `states` leaves out
_WHOLE_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
# the two answers of `diverged`, made once: it is asked at every step
_STABLE, _UNSTABLE = np.zeros(1, dtype=bool), np.ones(1, dtype=bool)
_STABLE.flags.writeable = _UNSTABLE.flags.writeable = False


class SingleSim(MuJoCoSim):
    """`Sim` of n = 1; its methods ignore `env_ids`.

    Args:
      model: a model of its own, since randomization changes it.
      data: the state that the arrays show.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        super().__init__(1, model)
        self._bind(data)

    def _bind(self, data: mujoco.MjData) -> None:
        self.data = data
        self._instabilities = instabilities(data)  # a view: looking it up at each step is slow
        for name in FIELDS:
            setattr(self, name, getattr(data, name)[None])  # a view, (1, ...)

    # Views of the data are bound again in the copy.
    def __getstate__(self) -> dict[str, object]:
        bound = (*FIELDS, "_instabilities")
        return {name: value for name, value in vars(self).items() if name not in bound}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._bind(self.data)

    def __deepcopy__(self, memo: dict[int, object]) -> SingleSim:
        copy_data(self.model, self.data, memo)
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def step(self, nstep: int, env_ids: EnvIds | None = None) -> None:
        mujoco.mj_step(self.model, self.data, nstep)
        # mj_step leaves the derived fields of the substep before; step1 computes positions and velocities
        mujoco.mj_step1(self.model, self.data)

    def reset(self, env_ids: EnvIds) -> None:
        mujoco.mj_resetData(self.model, self.data)

    def forward(self, env_ids: EnvIds) -> None:
        mujoco.mj_step1(self.model, self.data)

    def parameter(self, name: str) -> Array:
        values: Array = getattr(self.model, name)[None]
        return values

    def set_const(self, env_ids: EnvIds) -> None:
        mujoco.mj_setConst(self.model, self.data)

    def diverged(self) -> BoolArray:
        return _UNSTABLE if np.count_nonzero(self._instabilities) else _STABLE

    def states(self) -> FloatArray:
        state = np.empty((1, mujoco.mj_stateSize(self.model, REPLAY_STATE)))
        mujoco.mj_getState(self.model, self.data, state[0], REPLAY_STATE)
        return state

    def load_states(self, states: FloatArray) -> None:
        mujoco.mj_setState(self.model, self.data, states[0], REPLAY_STATE)
        mujoco.mj_step1(self.model, self.data)

    def _save_physics(self) -> tuple[FloatArray, IntArray]:
        state = np.empty((1, mujoco.mj_stateSize(self.model, _WHOLE_STATE)))
        mujoco.mj_getState(self.model, self.data, state[0], _WHOLE_STATE)
        warning = self.data.warning
        # (1, number of warnings, 2), laid out as `Batch.warning`
        return state, np.stack((warning.lastinfo, warning.number), -1)[None]

    def _restore_physics(self, physics: Array, warnings: Array) -> None:
        mujoco.mj_setState(self.model, self.data, physics[0], _WHOLE_STATE)
        mujoco.mj_step1(self.model, self.data)
        # last, since step1 may count a warning that the saved simulation had counted already
        self.data.warning.lastinfo[:], self.data.warning.number[:] = warnings[0].T

    def render_state(self) -> RenderState:
        return RenderState.of(self.model, self.data)
