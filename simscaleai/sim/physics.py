"""Simulations that tasks read and step: the protocol `Sim`, and the base of its two implementations.

`SingleSim` is one `MjData` (n = 1) and `BatchSim` a `mujoco.batch.Batch` (n envs on a thread pool).
Both give each MjData field as an (n, ...) array under MjData's name, so that a task, a controller
or an expert is written once. State fields (qpos, qvel, ctrl, mocap_pos, mocap_quat) may be written;
everything else is read.

Promise: after `step` and `forward` every field that depends on positions and velocities describes the
present state, not that of one substep ago, and env i of a batch is bit-identical to a single simulation
that was given the same controls.

Trap: the arrays are live. Copy what must outlive the next call.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from types import ModuleType
from typing import ClassVar, Protocol, Self, TypedDict

import mujoco
import numpy as np

from simscaleai.array_types import Array as NumpyArray
from simscaleai.array_types import ArrayDict, EnvIds, FloatArray, IntArray
from simscaleai.errors import UserError
from simscaleai.rendering.render_state import RenderState
from simscaleai.sim.arrays import Array

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
"""MuJoCo's warnings of NaN or huge numbers. At the first three MuJoCo resets the simulation in the middle of
a call of `mj_step`; at the last it steps as if all controls were 0."""

# the four warnings have consecutive numbers, and a slice is a view where a list would copy
BAD = slice(INSTABILITIES[0], INSTABILITIES[-1] + 1)
# of `Sim.states`: what a recorded episode needs to be replayed
REPLAY_STATE = int(
    mujoco.mjtState.mjSTATE_TIME
    | mujoco.mjtState.mjSTATE_QPOS
    | mujoco.mjtState.mjSTATE_QVEL
    | mujoco.mjtState.mjSTATE_ACT
    | mujoco.mjtState.mjSTATE_MOCAP_POS
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT
)


class SavedSim(TypedDict):
    """Everything that the future of n simulations depends on, see `Sim.save`.

    Attributes:
      physics: (n, d) MuJoCo's integration state, warm starts included.
      warnings: (n, number of warnings, 2) int32: last info and count of each warning of MuJoCo.
      task_state: {name: (n, ...)}.
    """

    physics: FloatArray
    warnings: IntArray
    task_state: ArrayDict


class Sim(Protocol):
    """n simulations of one model, on any array library; see the module docstring.

    Attributes:
      qpos: (n, nq) joint positions, m or rad; of a free joint (x, y, z, quaternion w first).
      qvel: (n, nv) joint velocities, m/s or rad/s.
      ctrl: (n, nu) controls, in the unit of each actuator.
      mocap_pos: (n, nmocap, 3) m, world frame.
      mocap_quat: (n, nmocap, 4) w first.
      site_xpos: (n, nsite, 3) m, world frame.
      site_xmat: (n, nsite, 9) row-major rotations from the site's to the world frame.
      xaxis: (n, njnt, 3) unit axes of the joints, world frame.
      xanchor: (n, njnt, 3) anchors of the joints, m, world frame.
      sensordata: (n, nsensordata), of sensors of position and velocity.
      task_state: {name: (n, ...)} state beyond physics that a task or a controller keeps.
    """

    qpos: Array
    qvel: Array
    ctrl: Array
    mocap_pos: Array
    mocap_quat: Array
    site_xpos: Array
    site_xmat: Array
    xaxis: Array
    xanchor: Array
    sensordata: Array
    task_state: dict[str, Array]

    @property
    def xp(self) -> ModuleType:
        """Array-API module of the fields."""

    @property
    def device(self) -> str:
        """Device of the fields, as `xp` names it."""

    @property
    def n(self) -> int:
        """Number of envs."""

    @property
    def model(self) -> mujoco.MjModel:
        """Model of all envs, at its nominal values."""

    def step(self, nstep: int, env_ids: EnvIds | None = None) -> None:
        """Advance `env_ids` (all by default) by `nstep` substeps at their present `ctrl`."""

    def reset(self, env_ids: EnvIds) -> None:
        """Put `env_ids` at the model's defaults, time 0; call `forward` once their state is written."""

    def forward(self, env_ids: EnvIds) -> None:
        """Make derived fields of `env_ids` those of their present state."""

    def parameter(self, name: str) -> Array:
        """Return the MjModel field `name` of each env, (n, ...), for writing; see `set_const`."""

    def set_const(self, env_ids: EnvIds) -> None:
        """Recompute for `env_ids` what MuJoCo derives from masses, sizes and poses."""

    def diverged(self) -> Array:
        """Return whether each env has become unstable since its last reset, (n,) bool; see `INSTABILITIES`.

        Where it has, MuJoCo has reset the state, and the env no longer simulates the same episode.
        """

    def states(self) -> Array:
        """Return copies of [time, qpos, qvel, act, mocap_pos, mocap_quat], (n, nstate), for replay."""

    def load_states(self, states: Array) -> None:
        """Set every env to its recorded state (n, nstate), and refresh derived fields."""

    def save(self) -> SavedSim:
        """Return copies of everything that the future depends on."""

    def restore(self, saved: SavedSim) -> None:
        """Resume from the result of `save` on the same scene; derived fields are current afterwards."""

    def check_compatible(self, saved: SavedSim) -> None:
        """Raise UserError if `saved` has another number of envs or another scene."""

    def render_state(self) -> RenderState:
        """Return poses and appearance of every env for a renderer, in live arrays."""


class MuJoCoSim(ABC):
    """Base of the simulations by MuJoCo's C library, whose fields are NumPy arrays; see `Sim`.

    Args:
      n: number of envs.
      model: model of all envs.
    """

    xp: ClassVar[ModuleType] = np
    device: ClassVar[str] = "cpu"
    n: int
    model: mujoco.MjModel
    task_state: ArrayDict
    # live views of MjData, bound by the subclasses
    qpos: FloatArray
    qvel: FloatArray
    ctrl: FloatArray
    mocap_pos: FloatArray
    mocap_quat: FloatArray
    site_xpos: FloatArray
    site_xmat: FloatArray
    xaxis: FloatArray
    xanchor: FloatArray
    sensordata: FloatArray

    def __init__(self, n: int, model: mujoco.MjModel) -> None:
        self.n = n
        self.model = model
        self.task_state = {}

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # one that shared the arrays would move the original

    def save(self) -> SavedSim:
        physics, warnings = self._save_physics()
        task_state = {name: value.copy() for name, value in self.task_state.items()}
        return {"physics": physics, "warnings": warnings, "task_state": task_state}

    def restore(self, saved: SavedSim) -> None:
        # copies: the caller may go on changing, or restore from, the same arrays
        self.task_state.update({name: np.array(v) for name, v in saved["task_state"].items()})
        self._restore_physics(saved["physics"], saved["warnings"])

    def check_compatible(self, saved: SavedSim) -> None:
        shape = np.shape(saved["physics"])
        own = (self.n, *self._save_physics()[0].shape[1:])
        if shape != own:
            raise UserError(
                f"The saved environments have states of shape {shape}, and these {own}; resume with the"
                " same task, scene and num_envs."
            )

    @abstractmethod
    def _save_physics(self) -> tuple[FloatArray, IntArray]:
        """Return copies of the physics (n, d) and of the warnings (n, number of warnings, 2)."""

    @abstractmethod
    def _restore_physics(self, physics: NumpyArray, warnings: NumpyArray) -> None:
        """Set the state, refresh derived fields, and then set the counts of the warnings."""


def instabilities(data: mujoco.MjData) -> IntArray:
    """Return how often each of `INSTABILITIES` occurred since `mj_resetData`, (4,); a live view of `data`."""
    counts: IntArray = data.warning.number[BAD]
    return counts


def state_size(model: mujoco.MjModel) -> int:
    """Return how many numbers `Sim.states` has for one env of `model`."""
    return mujoco.mj_stateSize(model, REPLAY_STATE)
