"""Bring the tool center point to a target behind a post, on the left or on the right of it.

Robot, post and target are symmetric about the plane y = 0, so both ways cost the same. The expert takes the
way that the episode drew, which no observation shows: demonstrations go both ways from the same state. Their
mean leads into the post, and an episode that touches the post cannot succeed any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray
from simscaleai.policy import Policy
from simscaleai.sim.arrays import (
    Array,
    array_namespace,
    columns,
    copied,
    float32,
    largest,
    like,
    number,
)
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import MAX_DISPLACEMENT, Controller
from simscaleai.sim.tasks.latent import LatentTask
from simscaleai.sim.tasks.reach import Reach

# The tool center point at x = 0.33, y = 0, z = 0.30 m: far enough from the post to move aside on the way.
START_POSE = "near"
POST_X = (0.555, 0.575)  # m
TARGET_LOW, TARGET_HIGH = np.array([0.70, 0.26]), np.array([0.74, 0.34])  # m, x and z
TOUCH = 0.001  # m between hand and post that counts as touching
SENSORS = ("left_pad_to_post", "right_pad_to_post", "hand_to_post", "forearm_to_post")
LEFT, RIGHT = 1, -1  # as `info["side"]` has it: the sign of y


class ReachAround(LatentTask, Reach):
    """See the module docstring."""

    name = "reach_around"
    xml = "reach_around.xml"
    instructions = ("reach the green target behind the post",)
    mocap_bodies = ("target", "post", "latent")
    sensors = SENSORS
    num_uniforms = 4
    task_state = {"hit": bool, "side": np.int64}
    reward_weights = {**Reach.reward_weights, "hit": 0.5}
    stages = ("never_reached", "hit_post")
    categories = ("left", "right", "neither")

    def __init__(self, model: mujoco.MjModel, controller: Controller) -> None:
        super().__init__(model, controller)
        self.start = controller.start(model, START_POSE)
        self.post = self.mocap_id("post")
        self.distances = [int(model.sensor(name).adr[0]) for name in SENSORS]

    def initial_state(self, u: Array) -> dict[str, Array]:
        zero = 0.0 * u[:, 0]
        target = like(TARGET_LOW, u) + u[:, :2] * like(TARGET_HIGH - TARGET_LOW, u)
        post = POST_X[0] + u[:, 2] * (POST_X[1] - POST_X[0])
        places = {
            self.target: columns(target[:, 0], zero, target[:, 1]),
            self.post: columns(post, zero, zero),
        }
        side = array_namespace(u).where(u[:, 3] < 0.5, zero + LEFT, RIGHT)
        return {
            "qpos": self.arm_at_start(u),
            "mocap_pos": self.mocap_pos(places | self.place_latent(side)),
        }

    def observe(self, sim: Sim) -> dict[str, Array]:
        return {**super().observe(sim), "post_pos": float32(sim.mocap_pos[:, self.post, :])}

    def post_step(self, sim: Sim) -> None:
        xp = sim.xp
        for distance in self.distances:
            sim.task_state["hit"] |= sim.sensordata[:, distance] < TOUCH
        hand, side = sim.site_xpos[:, self.controller.site, :], sim.task_state["side"]
        passes = (side == 0) & (hand[:, 0] > sim.mocap_pos[:, self.post, 0])
        here = xp.where(hand[:, 1] > 0, xp.full_like(side, LEFT), RIGHT)
        side[:] = xp.where(passes, here, side)

    def info(self, sim: Sim) -> dict[str, Array]:
        measured = super().info(sim)
        hit, side = (copied(sim.task_state[name]) for name in ("hit", "side"))
        return {**measured, "hit": hit, "side": side, "success": measured["success"] & ~hit}

    def reward_terms(self, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        return {**super().reward_terms(info, action), "hit": -1.0 * number(info["hit"])}

    def stage(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        return np.where(summary["ever_hit"], 1, 0)

    def category(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        return np.where(summary["side"] == LEFT, 0, np.where(summary["side"] == RIGHT, 1, 2))

    def expert(self) -> Policy:
        return ReachAroundExpert(self)


class ReachAroundExpert:
    """Moves aside before the post, past it, and then to the target, from the present position alone."""

    aside = 0.155  # m off the post: half the hand's breadth, 10.5 cm, the post's radius, and 3 cm
    front = 0.035  # m before the post where the hand is aside; on the straight way there it is free
    back = 0.08  # m behind the post from where on the target is free

    def __init__(self, task: ReachAround) -> None:
        self._task = task

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Remembers nothing."""

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        ee, post, target = obs["ee_pos"], obs["post_pos"], obs["target_pos"]
        xp = array_namespace(ee)
        side = xp.astype(self._task.latent(), xp.float64)
        clear = side * ee[:, 1] > self.aside - 0.02
        behind = ee[:, 0] > post[:, 0] + self.back
        forward = xp.where(clear, 0.0 * side + (self.back + 0.03), -self.front)
        goal = columns(post[:, 0] + forward, side * self.aside, target[:, 2])
        move = xp.where(behind[:, None], target, goal) - ee
        # all components slow down together: the way is straight
        longest = xp.maximum(largest(abs(move)), MAX_DISPLACEMENT)
        return self._task.controller.encode(move * (MAX_DISPLACEMENT / longest))
