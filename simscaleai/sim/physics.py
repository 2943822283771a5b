"""The arrays that a task reads: n simulations of one model behind one interface.

`SingleSim` is one `MjData` (n = 1) and `BatchSim` a `mujoco.batch.Batch` (n envs on a thread pool).
Both give each MjData field as an (n, ...) array under MjData's name, so that a task, a controller
or an expert is written once. State fields (qpos, qvel, ctrl, mocap_pos, mocap_quat) may be written;
everything else is read.

Promise: after `step` and `forward` every position- and velocity-dependent field describes the
state as it is now, not one substep ago, and env i of a batch is bit-identical to a single
simulation that was driven in the same way.

Trap: the arrays are live. Copy what must outlive the next call.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar, Self

import mujoco
import numpy as np
from mujoco.batch import MODEL_FIELDS, Batch
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.rendering.render_state import POSE_FIELDS, VISUAL_FIELDS, RenderState
from simscaleai.sim.copies import copy_data

EnvIds = NDArray[np.intp]
"""Sorted, unique indices (k,) of envs: of the n simulations."""

FIELDS = (
    "qpos",
    "qvel",
    "ctrl",
    "mocap_pos",
    "mocap_quat",
    "site_xpos",
    "site_xmat",
    "xaxis",
    "xanchor",
    "sensordata",
)
INSTABILITIES = [
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
    mujoco.mjtWarning.mjWARN_BADCTRL,
]
"""MuJoCo's warnings of NaN or huge numbers. At the first three it resets the simulation by itself, in the
middle of whatever runs; at the last it acts as if all controls were 0."""

_BAD = slice(
    INSTABILITIES[0], INSTABILITIES[-1] + 1
)  # they follow each other, and a slice is a view
_STABLE, _UNSTABLE = np.zeros(1, dtype=bool), np.ones(1, dtype=bool)
_STABLE.flags.writeable = _UNSTABLE.flags.writeable = False
_STAGE = mujoco.mjtStage.mjSTAGE_VEL.value
_STATE = (
    mujoco.mjtState.mjSTATE_TIME
    | mujoco.mjtState.mjSTATE_QPOS
    | mujoco.mjtState.mjSTATE_QVEL
    | mujoco.mjtState.mjSTATE_ACT
    | mujoco.mjtState.mjSTATE_MOCAP_POS
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT
)
_WHOLE_STATE = int(
    mujoco.mjtState.mjSTATE_INTEGRATION
)  # with warm starts, which `states` leaves out


class Sim(ABC):
    """n simulations of `model`; see the module docstring.

    Attributes:
      xp: the array-API module of the fields; NumPy here.
      device: where they are.
      n: number of envs.
      model: the model they share, at its nominal values.
      memory: what a task or controller remembers, {name: (n, ...)}; written through `remember`.
    """

    xp: ClassVar[ModuleType] = np
    device: ClassVar[str] = "cpu"
    n: int
    model: mujoco.MjModel
    qpos: NDArray[np.float64]  # (n, nq)
    qvel: NDArray[np.float64]  # (n, nv)
    ctrl: NDArray[np.float64]  # (n, nu)
    mocap_pos: NDArray[np.float64]  # (n, nmocap, 3)
    mocap_quat: NDArray[np.float64]  # (n, nmocap, 4)
    site_xpos: NDArray[np.float64]  # (n, nsite, 3), world frame
    site_xmat: NDArray[np.float64]  # (n, nsite, 9), row-major rotation to the world frame
    xaxis: NDArray[np.float64]  # (n, njnt, 3), joint axes in the world frame
    xanchor: NDArray[np.float64]  # (n, njnt, 3), joint anchors in the world frame
    sensordata: NDArray[np.float64]  # (n, nsensordata); of sensors of position and velocity

    def __init__(self, n: int, model: mujoco.MjModel) -> None:
        self.n = n
        self.model = model
        self.task_state: dict[str, NDArray[Any]] = {}

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # one that shared the arrays would move the original

    @abstractmethod
    def step(self, nstep: int, env_ids: EnvIds | None = None) -> None:
        """Advance `env_ids` (all by default) by `nstep` substeps at their present `ctrl`."""

    @abstractmethod
    def reset(self, env_ids: EnvIds) -> None:
        """Put `env_ids` at the model's defaults, time 0; call `forward` once their state is written."""

    @abstractmethod
    def forward(self, env_ids: EnvIds) -> None:
        """Make derived fields of `env_ids` those of their present state."""

    @abstractmethod
    def parameter(self, name: str) -> NDArray[Any]:
        """The MjModel field `name` per simulation, (n, ...), for writing; see `set_const`."""

    @abstractmethod
    def set_const(self, env_ids: EnvIds) -> None:
        """Recompute what MuJoCo derives from masses, sizes and poses, for `env_ids`."""

    @abstractmethod
    def diverged(self) -> NDArray[np.bool_]:
        """Whether each simulation has become unstable since its last reset, (n,); see `INSTABILITIES`.

        What it simulates from then on is not what was going on before.
        """

    @abstractmethod
    def states(self) -> NDArray[np.float64]:
        """Copies of [time, qpos, qvel, act, mocap_pos, mocap_quat], (n, nstate), for replay."""

    @abstractmethod
    def load_states(self, states: NDArray[np.float64]) -> None:
        """Set every env to its recorded state (n, nstate), and refresh derived fields."""

    def save(self) -> dict[str, Any]:
        """Copies of all that the future depends on: "physics" (n, d), "warnings" and "task_state"."""
        task_state = {name: value.copy() for name, value in self.task_state.items()}
        return {**self._save_physics(), "task_state": task_state}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Resume from what `save` of a simulation of the same scene gave; derived fields are current then."""
        self.task_state.update({name: np.array(v) for name, v in saved["task_state"].items()})
        self._restore_physics(saved)

    @abstractmethod
    def _save_physics(self) -> dict[str, NDArray[Any]]:
        """Copies of "physics" (n, d) and "warnings"."""

    @abstractmethod
    def _restore_physics(self, saved: Mapping[str, Any]) -> None:
        """Take over what `_save_physics` gave."""

    def check_compatible(self, saved: Mapping[str, Any]) -> None:
        """UserError if what `save` gave is of another number of envs or another scene."""
        shape, own = (
            np.shape(saved["physics"]),
            (self.n, *self._save_physics()["physics"].shape[1:]),
        )
        if shape != own:
            raise UserError(
                f"The saved environments have states of shape {shape}, and these {own}; resume with the"
                " same task, scene and num_envs."
            )

    @abstractmethod
    def render_state(self) -> RenderState:
        """Return every env as a camera sees it, in live arrays."""


def instabilities(data: mujoco.MjData) -> NDArray[np.int32]:
    """How often each of `INSTABILITIES` was there since `mj_resetData`, (4,); a live view of `data`."""
    counts: NDArray[np.int32] = data.warning.number[_BAD]
    return counts


def state_size(model: mujoco.MjModel) -> int:
    """How many numbers `Sim.states` gives for one simulation of `model`."""
    return mujoco.mj_stateSize(model, int(_STATE))


class SingleSim(Sim):
    """One MjData of a model, which it may change: hand it a model of its own."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        super().__init__(1, model)
        self._bind(data)

    def _bind(self, data: mujoco.MjData) -> None:
        self.data = data
        self._instabilities = instabilities(data)
        for name in FIELDS:
            setattr(self, name, getattr(data, name)[None])

    def __getstate__(self) -> dict[str, Any]:
        bound = (*FIELDS, "_instabilities")
        return {name: value for name, value in vars(self).items() if name not in bound}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bind(self.data)

    def __deepcopy__(self, memo: dict[int, Any]) -> SingleSim:
        copy_data(self.model, self.data, memo)
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def step(self, nstep: int, env_ids: EnvIds | None = None) -> None:
        mujoco.mj_step(self.model, self.data, nstep)
        mujoco.mj_step1(self.model, self.data)

    def reset(self, env_ids: EnvIds) -> None:
        mujoco.mj_resetData(self.model, self.data)

    def forward(self, env_ids: EnvIds) -> None:
        mujoco.mj_step1(self.model, self.data)

    def parameter(self, name: str) -> NDArray[Any]:
        values: NDArray[Any] = getattr(self.model, name)[None]
        return values

    def set_const(self, env_ids: EnvIds) -> None:
        mujoco.mj_setConst(self.model, self.data)

    def diverged(self) -> NDArray[np.bool_]:
        return _UNSTABLE if np.count_nonzero(self._instabilities) else _STABLE

    def states(self) -> NDArray[np.float64]:
        state = np.empty((1, state_size(self.model)))
        mujoco.mj_getState(self.model, self.data, state[0], int(_STATE))
        return state

    def load_states(self, states: NDArray[np.float64]) -> None:
        mujoco.mj_setState(self.model, self.data, states[0], int(_STATE))
        mujoco.mj_step1(self.model, self.data)

    def _save_physics(self) -> dict[str, NDArray[Any]]:
        state = np.empty((1, mujoco.mj_stateSize(self.model, _WHOLE_STATE)))
        mujoco.mj_getState(self.model, self.data, state[0], _WHOLE_STATE)
        warning = self.data.warning
        return {
            "physics": state,
            "warnings": np.stack((warning.lastinfo, warning.number), -1)[None],
        }

    def _restore_physics(self, saved: Mapping[str, Any]) -> None:
        mujoco.mj_setState(self.model, self.data, saved["physics"][0], _WHOLE_STATE)
        mujoco.mj_step1(self.model, self.data)
        self.data.warning.lastinfo[:], self.data.warning.number[:] = saved["warnings"][0].T

    def render_state(self) -> RenderState:
        return RenderState.of(self.model, self.data)


class BatchSim(Sim):
    """n envs of a `mujoco.batch.Batch` on `num_threads` threads (0: all cores)."""

    def __init__(self, model: mujoco.MjModel, n: int, num_threads: int = 0) -> None:
        super().__init__(n, model)
        self._num_threads = num_threads
        self._bind()

    def _bind(self) -> None:
        self.batch = Batch(self.model, self.n, self._num_threads)
        for name in FIELDS:
            setattr(self, name, self.batch.bind(name))
        parts = (
            ["time", "qpos", "qvel"]
            + (["act"] if self.model.na else [])
            + (["mocap_pos", "mocap_quat"] if self.model.nmocap else [])
        )
        self._poses: dict[str, NDArray[Any]] = {}
        self._stable = np.zeros(self.n, dtype=bool)
        self._stable.flags.writeable = False
        self._state_parts = [self.batch.bind(part).reshape(self.n, -1) for part in parts]

    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.batch.expanded(name) for name in MODEL_FIELDS}
        return {
            "n": self.n,
            "model": self.model,
            "_num_threads": self._num_threads,
            "task_state": self.task_state,
            "own": {name: values.copy() for name, values in own.items() if values is not None},
            "state": self.batch.state.copy(),
            "warning": self.batch.warning.copy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        own, states, warning = state.pop("own"), state.pop("state"), state.pop("warning")
        vars(self).update(state)
        self._bind()
        for name, values in own.items():
            self.batch.expand(name)[:] = values
        self.batch.state[:] = states
        self.batch.forward(None, _STAGE)
        self.batch.warning[:] = warning

    def step(self, nstep: int, env_ids: EnvIds | None = None) -> None:
        self.batch.step(env_ids, nstep, _STAGE)

    def reset(self, env_ids: EnvIds) -> None:
        self.batch.reset(env_ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)

    def forward(self, env_ids: EnvIds) -> None:
        self.batch.forward(env_ids, _STAGE)

    def parameter(self, name: str) -> NDArray[Any]:
        return self.batch.expand(name)

    def set_const(self, env_ids: EnvIds) -> None:
        self.batch.set_const(env_ids)

    def diverged(self) -> NDArray[np.bool_]:
        counts = self.batch.warning[:, _BAD, 1]  # (n, 4)
        if not np.count_nonzero(counts):  # four times as fast as looking at each env
            return self._stable
        found: NDArray[np.bool_] = counts.any(axis=1)
        return found

    def states(self) -> NDArray[np.float64]:
        return np.concatenate(self._state_parts, axis=1)

    def load_states(self, states: NDArray[np.float64]) -> None:
        start = 0
        for part in self._state_parts:
            part[:] = states[:, start : start + part.shape[1]]
            start += part.shape[1]
        self.batch.forward(None, _STAGE)

    def _save_physics(self) -> dict[str, NDArray[Any]]:
        return {"physics": self.batch.state.copy(), "warnings": self.batch.warning.copy()}

    def _restore_physics(self, saved: Mapping[str, Any]) -> None:
        self.batch.state[:] = saved["physics"]
        self.batch.forward(None, _STAGE)
        self.batch.warning[:] = saved["warnings"]

    def render_state(self) -> RenderState:
        if not self._poses:  # copying them out of every step is a cost for who wants pictures
            self._poses = {name: self.batch.bind(name) for name in POSE_FIELDS}
            self.batch.forward(None, _STAGE)
        own = {name: self.batch.expanded(name) for name in VISUAL_FIELDS}
        return RenderState(self._poses, {k: v for k, v in own.items() if v is not None})
