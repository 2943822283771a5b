"""Perturbations of the scene: where things are, how they look, how heavy and how slippery they are."""

from __future__ import annotations

import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.evaluation.stress_core import ModelFields, Perturbation, of_objects
from simscaleai.sim.core import TaskCore
from simscaleai.sim.physics import EnvIds

_SAMPLES = 2000  # initial states from which the range of training is read
_DEGREES_PER_METER = 100  # by which a camera turns that is moved
_METERS_PER_STOP = 0.2  # by which a light moves that gets brighter or darker


class ObjectPlacement(Perturbation):
    """Places things outside the range of training.

    All things that the task places are moved away from the center of that range in proportion, so that they
    keep their arrangement and never overlap, until the outermost one is `level` times half the range beyond
    its edge. Their heights stay.
    """

    stream = "stress placement"

    def prepare(self, core: TaskCore) -> None:
        self._bodies = placed_bodies(core)
        places = np.concatenate([initial_places(core, body) for body in self._bodies])
        low, high = places.min(axis=0), places.max(axis=0)
        self._center = (low + high) / 2
        self._half = np.maximum((high - low) / 2, 1e-9)  # of a line, one is 0

    def change_states(self, core: TaskCore, env_ids: EnvIds) -> None:
        places = np.stack([_xy(core, body)[env_ids] for body in self._bodies], axis=1)  # (k, m, 2)
        offset = places - self._center
        # how far the outermost one is, 1 at the edge of the range
        distance = abs(offset / self._half).max(axis=(1, 2))  # (k,)
        scale = (
            (1 + self.level) / np.maximum(distance, 1e-6) if self.level else np.ones(len(env_ids))
        )
        moved = places + (scale - 1)[:, None, None] * offset
        for k, body in enumerate(self._bodies):
            _xy(core, body)[env_ids] = moved[:, k]


def placed_bodies(core: TaskCore) -> list[int]:
    """Return the bodies with a shape whose place on the table the task draws for each episode."""
    model, task = core.sim.model, core.task
    bodies = [int(model.body(name).id) for name in (*task.free_bodies, *task.mocap_bodies)]
    # one without a shape is a latent, whose place has another meaning
    shaped = [body for body in bodies if model.body_geomnum[body]]
    return [body for body in shaped if np.ptp(initial_places(core, body), axis=0).any()]


def initial_places(core: TaskCore, body: int) -> FloatArray:
    """Return where a body is at the start of many episodes, (samples, 2) m."""
    u = np.random.default_rng(0).random((_SAMPLES, core.task.num_uniforms))
    state, model = core.task.initial_state(u), core.sim.model
    mocap = model.body_mocapid[body]
    if mocap >= 0:
        if "mocap_pos" not in state:  # stays where the scene has it
            return np.zeros((1, 2))
        return np.asarray(state["mocap_pos"])[:, mocap, :2]
    start = model.jnt_qposadr[model.body_jntadr[body]]
    return np.asarray(state["qpos"])[:, start : start + 2]


def _xy(core: TaskCore, body: int) -> FloatArray:
    """Return where a body is in all envs, (n, 2) m, for writing."""
    sim, model = core.sim, core.sim.model
    if model.body_mocapid[body] >= 0:
        return sim.mocap_pos[:, model.body_mocapid[body], :2]
    start = model.jnt_qposadr[model.body_jntadr[body]]
    return sim.qpos[:, start : start + 2]


class _FieldPerturbation(Perturbation):
    """Changes fields of the model."""

    fields: tuple[str, ...]

    def prepare(self, core: TaskCore) -> None:
        self._fields = ModelFields(core, self.fields)

    def change_models(self, core: TaskCore, env_ids: EnvIds) -> None:
        self._fields.reset(core, env_ids)
        self.change_fields(core, env_ids)

    def change_fields(self, core: TaskCore, env_ids: EnvIds) -> None:
        """Change the fields of `env_ids` (k,), which are at what they are without it."""
        raise NotImplementedError


class CameraPose(_FieldPerturbation):
    """Moves each camera of the policy by `level` m in a random direction and turns it 1 degree per cm."""

    stream = "stress camera"
    fields = ("cam_pos", "cam_quat")

    def change_fields(self, core: TaskCore, env_ids: EnvIds) -> None:
        cameras = [core.sim.model.camera(camera.name).id for camera in core.config.cameras]
        angle = np.radians(_DEGREES_PER_METER * self.level)
        for env_id in env_ids:
            rng = self.generator(core, int(env_id))
            for camera in cameras:
                self._fields["cam_pos"][env_id, camera] += self.level * _direction(rng)
                quat = self._fields["cam_quat"][env_id, camera]
                self._fields["cam_quat"][env_id, camera] = _turned(quat, _direction(rng), angle)


class Lighting(_FieldPerturbation):
    """Makes all lights brighter or darker by `level` stops (powers of 2), and moves them 20 cm per stop."""

    stream = "stress light"
    fields = ("light_diffuse", "light_pos")

    def change_fields(self, core: TaskCore, env_ids: EnvIds) -> None:
        for env_id in env_ids:
            rng = self.generator(core, int(env_id))
            brighter = rng.choice((-1.0, 1.0))
            self._fields["light_diffuse"][env_id] *= 2.0 ** (brighter * self.level)
            for light in range(core.sim.model.nlight):
                moved = self.level * _METERS_PER_STOP * _direction(rng)
                self._fields["light_pos"][env_id, light] += moved


class SurfaceColors(_FieldPerturbation):
    """Shifts the colors of the room and of objects by up to `level` in each of red, green and blue.

    Materials (the table, the floor and its texture) and objects are shifted each by a draw of its own.
    """

    stream = "stress colors"
    fields = ("mat_rgba", "geom_rgba")

    def prepare(self, core: TaskCore) -> None:
        super().prepare(core)
        objects = of_objects(core) | (core.sim.model.body_mocapid >= 0)
        self._geoms = np.flatnonzero(objects[core.sim.model.geom_bodyid])
        robot = ~objects & (core.sim.model.body_treeid >= 0)
        of_robot = core.sim.model.geom_matid[robot[core.sim.model.geom_bodyid]]
        # the arm's own materials look as they did: it is the room that changes
        self._materials = np.setdiff1d(np.arange(core.sim.model.nmat), of_robot)

    def change_fields(self, core: TaskCore, env_ids: EnvIds) -> None:
        for env_id in env_ids:
            rng = self.generator(core, int(env_id))
            for field, ids in (("mat_rgba", self._materials), ("geom_rgba", self._geoms)):
                shift = self.level * rng.uniform(-1, 1, (len(ids), 3))
                colors = self._fields[field][env_id, ids, :3]
                self._fields[field][env_id, ids, :3] = np.clip(colors + shift, 0, 1)


class Friction(_FieldPerturbation):
    """Halves all sliding friction `level` times: of the table, of objects and of the fingers' pads."""

    stream = "stress friction"
    fields = ("geom_friction", "pair_friction")

    def change_fields(self, core: TaskCore, env_ids: EnvIds) -> None:
        self._fields["geom_friction"][env_ids, :, 0] *= 2.0**-self.level
        # both tangential directions of a pair
        self._fields["pair_friction"][env_ids, :, :2] *= 2.0**-self.level


class ObjectMass(_FieldPerturbation):
    """Doubles the mass of all objects `level` times, and their inertia with it."""

    stream = "stress mass"
    fields = ("body_mass", "body_inertia")

    def prepare(self, core: TaskCore) -> None:
        super().prepare(core)
        self._objects = np.flatnonzero(of_objects(core))

    def change_fields(self, core: TaskCore, env_ids: EnvIds) -> None:
        for field in self.fields:
            values = self._fields[field]
            values[env_ids[:, None], self._objects] *= 2.0**self.level
        core.sim.set_const(env_ids)  # inverse weights, which constraints are scaled with


class RobotStart(Perturbation):
    """Turns each joint of the arm by up to `level` rad at the start."""

    stream = "stress robot start"

    def change_states(self, core: TaskCore, env_ids: EnvIds) -> None:
        arm = core.task.controller
        for env_id in env_ids:
            start = core.sim.qpos[env_id, arm.qpos]
            turn = self.level * self.generator(core, int(env_id)).uniform(-1, 1, len(start))
            # a home posture may lie outside what servos may be sent to; then it stays
            low, high = np.minimum(arm.low, start), np.maximum(arm.high, start)
            core.sim.qpos[env_id, arm.qpos] = np.clip(start + turn, low, high)


def has_objects(core: TaskCore) -> bool:
    """Return whether the scene has bodies that can move, besides the robot."""
    return bool(of_objects(core).any())


def _direction(rng: np.random.Generator) -> FloatArray:
    """Return a random unit vector (3,)."""
    vector: FloatArray = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _turned(quat: FloatArray, axis: FloatArray, angle: float) -> FloatArray:
    """Return an orientation (4,), w first, turned by an angle (rad) about a unit vector of its own frame."""
    w, v, turn = quat[0], quat[1:], np.sin(angle / 2) * axis
    cosine = np.cos(angle / 2)
    # Hamilton's product of the two quaternions
    vector = cosine * v + w * turn + np.cross(v, turn)
    return np.concatenate([[w * cosine - v @ turn], vector])
