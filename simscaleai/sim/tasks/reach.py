"""Bring the tool center point to a target in the air."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray
from simscaleai.policy import Policy
from simscaleai.sim.arrays import Array, array_namespace, closeness, float32, like, norm, number
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import Controller
from simscaleai.sim.task import Task

THRESHOLD = 0.02  # m between tool center point and target: success, which ends the episode
TARGET_LOW = np.array([0.3, -0.3, 0.1])  # m, world frame; within reach of both arms
TARGET_HIGH = np.array([0.7, 0.3, 0.5])


class Reach(Task):
    """See the module docstring."""

    name = "reach"
    xml = "reach.xml"
    instructions: ClassVar[tuple[str, ...]] = ("reach the green target",)
    mocap_bodies: ClassVar[tuple[str, ...]] = ("target",)
    num_uniforms = 3  # x, y, z of the target
    reward_weights = {"distance": 1.0, "closeness": 0.5, "action": 0.01, "success": 10.0}
    stages: ClassVar[tuple[str, ...]] = ("never_reached",)
    threshold = THRESHOLD

    def __init__(self, model: mujoco.MjModel, controller: Controller) -> None:
        super().__init__(model, controller)
        self.target = self.mocap_id(self.mocap_bodies[0])
        self.start = controller.start(model)

    def initial_state(self, u: Array) -> dict[str, Array]:
        target = like(TARGET_LOW, u) + u * like(TARGET_HIGH - TARGET_LOW, u)  # (k, 3)
        return {"qpos": self.arm_at_start(u), "mocap_pos": self.mocap_pos({self.target: target})}

    def arm_at_start(self, u: Array) -> Array:
        """Return qpos (k, nq) of the scene with the arm where episodes start, for u (k, d)."""
        start = like(self.start, u)
        return array_namespace(u).broadcast_to(start, (u.shape[0], self.model.nq))

    def observe(self, sim: Sim) -> dict[str, Array]:
        arm = self.controller
        return {
            "ee_pos": float32(sim.site_xpos[:, arm.site, :]),
            "joint_pos": float32(sim.qpos[:, arm.qpos]),
            "joint_vel": float32(sim.qvel[:, arm.qvel]),
            "target_pos": float32(sim.mocap_pos[:, self.target, :]),
        }

    def goal(self, sim: Sim) -> Array:
        """Return the goal of the tool center point, (n, 3) m."""
        return sim.mocap_pos[:, self.target, :]

    def info(self, sim: Sim) -> dict[str, Array]:
        distance = norm(self.goal(sim) - sim.site_xpos[:, self.controller.site, :])
        return {"distance": distance, "success": distance < self.threshold}

    def reward_terms(self, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        distance = info["distance"]
        return {
            "distance": -distance,
            # a slope that grows near the goal, where that of the distance is small against the action's cost
            "closeness": closeness(distance, 0.1) - 1.0,
            "action": -norm(action),
            "success": number(info["success"]),
        }

    def expert(self) -> Policy:
        return ReachExpert(self.controller)


class ReachExpert:
    """Moves the hand straight to the target."""

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
        return self._controller.encode(obs["target_pos"] - obs["ee_pos"])
