"""n simulations as arrays, stepped by the threads of one `mujoco.batch.Batch`."""

from __future__ import annotations

import ctypes
import os
from weakref import WeakSet

import mujoco
import numpy as np
from mujoco.batch import MODEL_FIELDS, Batch

from simscaleai.array_types import Array, ArrayDict, BoolArray, EnvIds, FloatArray, IntArray
from simscaleai.rendering.render_state import POSE_FIELDS, VISUAL_FIELDS, RenderState
from simscaleai.sim.physics import BAD, FIELDS, MuJoCoSim

# derived fields up to velocities, as `mj_step1` computes for `SingleSim`
_STAGE = mujoco.mjtStage.mjSTAGE_VEL.value
_NO_STAGE = mujoco.mjtStage.mjSTAGE_NONE.value

_batches: WeakSet[Batch] = WeakSet()


def _keep_for_ever() -> None:
    """Never delete the present batches: the threads that a batch then waits for do not exist in a fork."""
    for batch in list(_batches):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(batch))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_keep_for_ever)

_Pickled = tuple[dict[str, object], ArrayDict, FloatArray, IntArray]
"""Attributes, model fields of the envs (n, ...), physics (n, d), warnings (n, number of warnings, 2)."""


class BatchSim(MuJoCoSim):
    """`Sim` of n envs on `num_threads` threads (0: all cores)."""

    def __init__(self, model: mujoco.MjModel, n: int, num_threads: int = 0) -> None:
        super().__init__(n, model)
        self._num_threads = num_threads
        self._bind()

    def _bind(self) -> None:
        self.batch = Batch(self.model, self.n, self._num_threads)
        _batches.add(self.batch)
        for name in FIELDS:
            setattr(self, name, self.batch.bind(name))
        # a model without activations or mocap bodies has no such field to bind
        parts = (
            ["time", "qpos", "qvel"]
            + (["act"] if self.model.na else [])
            + (["mocap_pos", "mocap_quat"] if self.model.nmocap else [])
        )
        self._state_parts = [self.batch.bind(part).reshape(self.n, -1) for part in parts]
        self._poses: ArrayDict = {}
        self._stable = np.zeros(self.n, dtype=bool)
        self._stable.flags.writeable = False

    def __getstate__(self) -> _Pickled:
        expanded = {name: self.batch.expanded(name) for name in MODEL_FIELDS}
        own = {name: values.copy() for name, values in expanded.items() if values is not None}
        kept = ("n", "model", "_num_threads", "task_state")
        attributes = {name: value for name, value in vars(self).items() if name in kept}
        return attributes, own, self.batch.state.copy(), self.batch.warning.copy()

    def __setstate__(self, pickled: _Pickled) -> None:
        attributes, own, physics, warnings = pickled
        vars(self).update(attributes)
        self._bind()
        for name, values in own.items():
            self.batch.expand(name)[:] = values
        self._restore_physics(physics, warnings)

    def step(self, nstep: int, env_ids: EnvIds | None = None) -> None:
        self.batch.step(env_ids, nstep, _STAGE)

    def reset(self, env_ids: EnvIds) -> None:
        self.batch.reset(env_ids, stage=_NO_STAGE)  # `forward` follows once the state is written

    def forward(self, env_ids: EnvIds) -> None:
        self.batch.forward(env_ids, _STAGE)

    def parameter(self, name: str) -> Array:
        return self.batch.expand(name)

    def set_const(self, env_ids: EnvIds) -> None:
        self.batch.set_const(env_ids)

    def diverged(self) -> BoolArray:
        counts = self.batch.warning[:, BAD, 1]  # (n, 4)
        if not np.count_nonzero(counts):  # four times as fast as looking at each env
            return self._stable
        found: BoolArray = counts.any(axis=1)
        return found

    def states(self) -> FloatArray:
        return np.concatenate(self._state_parts, axis=1)

    def load_states(self, states: FloatArray) -> None:
        start = 0
        for part in self._state_parts:
            part[:] = states[:, start : start + part.shape[1]]
            start += part.shape[1]
        self.batch.forward(None, _STAGE)

    def _save_physics(self) -> tuple[FloatArray, IntArray]:
        return self.batch.state.copy(), self.batch.warning.copy()

    def _restore_physics(self, physics: Array, warnings: Array) -> None:
        self.batch.state[:] = physics
        self.batch.forward(None, _STAGE)
        # last, since forward may count a warning that the saved simulations had counted already
        self.batch.warning[:] = warnings

    def render_state(self) -> RenderState:
        if not self._poses:  # bound on first use: each bound field is copied after every step
            self._poses = {name: self.batch.bind(name) for name in POSE_FIELDS}
            self.batch.forward(None, _STAGE)
        own = {name: self.batch.expanded(name) for name in VISUAL_FIELDS}
        return RenderState(self._poses, {k: v for k, v in own.items() if v is not None})
