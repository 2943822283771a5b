"""Pick up a 4 cm cube by friction and bring it to a target on or above the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray
from simscaleai.policy import Policy
from simscaleai.sim.arrays import (
    Array,
    all_true,
    array_namespace,
    clip,
    closeness,
    columns,
    copied,
    float32,
    like,
    norm,
    number,
)
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import Controller
from simscaleai.sim.task import Task

THRESHOLD = 0.03  # m between cube and target
LIFT_HEIGHT = 0.03  # m above where the cube rests that counts as lifted
HALF_SIZE = 0.02  # m
CUBE_LOW = np.array([0.36, -0.22])  # m, center of the cube on the table
CUBE_HIGH = np.array([0.64, 0.22])
AIR_LOW, AIR_HIGH = 0.10, 0.30  # m, height of a target in the air
MIN_TRAVEL = 0.10  # m between cube and target on the table plane, at the start
GRIP_REGION = (0.025, 0.01, 0.025)  # m around the tool center point, hand frame: held within
SQUEEZE = 0.004  # m that a finger is kept from going further in
STOPPED = 0.02  # m/s, speed of a finger that does not close any more


class PickPlace(Task):
    """See the module docstring."""

    name = "pick_place"
    xml = "pick_place.xml"
    instructions: ClassVar[tuple[str, ...]] = (
        "pick up the red cube and bring it to the green target",
    )
    mocap_bodies: ClassVar[tuple[str, ...]] = ("target",)
    free_bodies: ClassVar[tuple[str, ...]] = ("object",)
    num_uniforms = 7
    task_state = {"lifted": bool}
    reward_weights = {
        "reach": 0.5,
        "grasp": 0.5,
        "lift": 0.5,
        "place": 1.0,
        "action": 0.01,
        "success": 20.0,
    }
    stages: ClassVar[tuple[str, ...]] = ("never_reached", "missed_grasp", "dropped", "misplaced")

    def __init__(self, model: mujoco.MjModel, controller: Controller) -> None:
        super().__init__(model, controller)
        self.target = self.mocap_id(self.mocap_bodies[0])
        self.grip_region = np.array(GRIP_REGION)
        joints = [int(model.body(name).jntadr[0]) for name in self.free_bodies]
        starts = model.jnt_qposadr[joints].tolist()
        self.positions = [slice(start, start + 3) for start in starts]
        self.quaternions = [slice(start + 3, start + 7) for start in starts]
        self.position, self.quaternion = self.positions[0], self.quaternions[0]
        self.start = controller.start(model)

    def initial_state(self, u: Array) -> dict[str, Array]:
        xp = array_namespace(u)
        low, size = like(CUBE_LOW, u), like(CUBE_HIGH - CUBE_LOW, u)
        cube = low + u[:, 0:2] * size
        target = low + u[:, 2:4] * size
        # a target closer than MIN_TRAVEL moves straight away from the cube
        away = target - cube
        distance = xp.sqrt(away[:, :1] * away[:, :1] + away[:, 1:] * away[:, 1:]) + 1e-9
        target = cube + away * (xp.maximum(distance, MIN_TRAVEL) / distance)
        in_air = u[:, 4] < 0.5
        height = xp.where(in_air, AIR_LOW + u[:, 5] * (AIR_HIGH - AIR_LOW), HALF_SIZE)
        qpos = self.cubes_at(cube[:, None, :], u[:, 6:7])
        place = columns(target, height)
        return {"qpos": qpos, "mocap_pos": self.mocap_pos({self.target: place})}

    def cubes_at(self, places: Array, u: Array) -> Array:
        """Return qpos (k, nq) with m cubes on the table at (k, m, 2) m, each rotated by u (k, m) turns."""
        xp, (k, m) = array_namespace(u), u.shape
        qpos = xp.tile(like(self.start, u)[None, :], (k, 1))
        half = (u - 0.5) * math.pi  # half the yaw
        zero = 0.0 * u[:, 0]
        for i in range(m):
            turned = columns(xp.cos(half[:, i]), zero, zero, xp.sin(half[:, i]))
            qpos[:, self.positions[i]] = columns(places[:, i, :], zero + HALF_SIZE)
            qpos[:, self.quaternions[i]] = turned
        return qpos

    def cube(self, sim: Sim) -> Array:
        """Return the center of the cube that is to be moved, (n, 3) m."""
        return sim.qpos[:, self.position]

    def goal(self, sim: Sim) -> Array:
        """Where the center of that cube belongs, (n, 3) m."""
        return sim.mocap_pos[:, self.target, :]

    def observe(self, sim: Sim) -> dict[str, Array]:
        arm = self.controller
        return {
            "ee_pos": float32(sim.site_xpos[:, arm.site, :]),
            "gripper_state": float32(arm.opening(sim)[:, None]),
            "joint_pos": float32(sim.qpos[:, arm.qpos]),
            "joint_vel": float32(sim.qvel[:, arm.qvel]),
            "object_pos": float32(sim.qpos[:, self.position]),
            "object_quat": float32(sim.qpos[:, self.quaternion]),
            "target_pos": float32(sim.mocap_pos[:, self.target, :]),
        }

    def post_step(self, sim: Sim) -> None:
        sim.task_state["lifted"] |= is_lifted(self.cube(sim))

    def info(self, sim: Sim) -> dict[str, Array]:
        cube = self.cube(sim)
        to_cube = cube - sim.site_xpos[:, self.controller.site, :]
        place_dist = norm(self.goal(sim) - cube)
        lifted = copied(sim.task_state["lifted"])
        return {
            "reach_dist": norm(to_cube),
            "place_dist": place_dist,
            "height": height_above_table(cube),
            "grasped": self._grasped(sim, to_cube),
            "lifted": lifted,
            "success": lifted & (place_dist < THRESHOLD),
        }

    def _grasped(self, sim: Sim, to_cube: Array) -> Array:
        """Return whether the fingers hold the cube, (n,).

        That is: the cube's center is between the pads, the servo commands the fingers further in than they
        are, and yet they have stopped.
        """
        hand = sim.xp.reshape(sim.site_xmat[:, self.controller.site, :], (sim.n, 3, 3))
        local = abs((to_cube[:, None, :] @ hand)[:, 0, :])  # (n, 3) m in the hand's frame
        blocked = self.controller.squeeze(sim) > SQUEEZE
        speed = self.controller.finger_speed(sim)
        between = all_true(local < like(self.grip_region, local))
        return blocked & between & (abs(speed) < STOPPED)

    def reward_terms(self, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        return {
            "reach": closeness(info["reach_dist"], 0.1) - 1.0,
            "grasp": number(info["grasped"]) - 1.0,
            # on the way up already: a hand that holds the cube still would else find nothing to climb
            "lift": clip(info["height"] / LIFT_HEIGHT, number(info["lifted"]), 1.0) - 1.0,
            "place": closeness(info["place_dist"], 0.1) - 1.0,
            "action": -norm(action),
            "success": number(info["success"]),
        }

    def stage(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        reached = summary["ever_grasped"] | (summary["min_reach_dist"] < 0.03)
        held = summary["ever_grasped"] & summary["ever_lifted"]
        return np.where(~reached, 0, np.where(~held, 1, np.where(~summary["grasped"], 2, 3)))

    def expert(self) -> Policy:
        return PickPlaceExpert(self.controller)


def height_above_table(position: Array) -> Array:
    """Return the heights (...) m of cubes above where they rest, for their centers (..., 3) m."""
    return position[..., 2] - HALF_SIZE


def is_lifted(position: Array) -> Array:
    """Return whether cubes are well above where they rest, (...), for their centers (..., 3) m."""
    return height_above_table(position) > LIFT_HEIGHT


def half_extent(axis: tuple[Array, Array, Array], quat: Array, half_size: Array) -> Array:
    """Return the extent of a box from its center along a unit vector, (n,) m.

    Args:
      axis: three (n,) components, world frame.
      quat: (n, 4) orientation of the box, w first.
      half_size: (n, 3) or (1, 3), m.
    """
    x, y, z = axis
    w, i, j, k = quat[:, 0], quat[:, 1], quat[:, 2], quat[:, 3]
    # the columns of the rotation matrix, dotted with the axis
    along_i = (1 - 2 * (j * j + k * k)) * x + 2 * (i * j + w * k) * y + 2 * (i * k - w * j) * z
    along_j = 2 * (i * j - w * k) * x + (1 - 2 * (i * i + k * k)) * y + 2 * (j * k + w * i) * z
    along_k = 2 * (i * k + w * j) * x + 2 * (j * k - w * i) * y + (1 - 2 * (i * i + j * j)) * z
    return (
        abs(along_i) * half_size[:, 0]
        + abs(along_j) * half_size[:, 1]
        + abs(along_k) * half_size[:, 2]
    )


class PickPlaceExpert:
    """Hovers, descends, closes, lifts, carries and lowers, each step from the observation alone.

    Every phase is a condition on the present positions, so that the hand returns to a cube that slipped out.
    """

    hover = 0.07  # m above the cube until the hand is over it
    travel = 0.09  # m, height of a carried cube's center on its way to a target on the table
    aligned = 0.004  # m off the cube's axis that lets the hand descend
    pull = 0.015  # m per control step, while the fingers may still be closing
    near = 0.014  # m from the cube's center that lets the fingers close
    # the opening may exceed the nominal width by this fraction and count as gripped: sizes are randomized
    slack = 0.15

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Remembers nothing."""

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        ee, cube, target = obs["ee_pos"], obs["object_pos"], obs["target_pos"]
        xp = array_namespace(ee)
        off = _norm2(cube - ee)
        above = ee[:, 2] - cube[:, 2]
        half = like(np.full((1, 3), HALF_SIZE), ee)
        zero = 0.0 * half[:, 0]  # (1,) float64
        width = 2 * half_extent((zero, zero + 1, zero), obs["object_quat"], half)
        near = (off < self.near) & (abs(above) < self.near)
        gripped = near & (obs["gripper_state"][:, 0] < width * (1 + self.slack))

        # free hand: stay on a funnel over the cube, narrow at the bottom
        funnel = clip((off - self.aligned) * 5.0, 0.0, self.hover)
        slow = clip(1.0 - (funnel - above) / 0.02, 0.0, 1.0)  # low beside the cube: rise first
        approach = cube - ee
        approach[:, :2] *= slow[:, None]
        approach[:, 2] += funnel

        # cube in hand: up, across, then down onto the target
        aside = _norm2(target - cube)
        over = clip((aside - 0.01) / 0.015, 0.0, 1.0)
        over = over * xp.maximum(self.travel - target[:, 2], 0.0)
        carry = target - cube
        lifted = clip((cube[:, 2] - HALF_SIZE - LIFT_HEIGHT) / 0.01, 0.0, 1.0)
        carry[:, :2] *= lifted[:, None]
        resting = cube[:, 2] < HALF_SIZE + 0.005
        carry[:, 2] = xp.where(resting, self.pull, carry[:, 2] + over)

        move = xp.where(gripped[:, None], carry, xp.where(near[:, None], cube - ee, approach))
        return self._controller.encode(move, xp.where(near, 0.0 * off - 1.0, 1.0))


def _norm2(x: Array) -> Array:
    """Return the lengths (n,) of vectors (n, 3) in the plane of the table."""
    return array_namespace(x).sqrt(x[:, 0] * x[:, 0] + x[:, 1] * x[:, 1])
