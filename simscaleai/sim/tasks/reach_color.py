"""Bring the tool center point to the one of three colored spheres that the instruction names."""

from __future__ import annotations

import mujoco
import numpy as np

from simscaleai.policy import Policy
from simscaleai.sim.arrays import Array, columns, float32, norm
from simscaleai.sim.parameters import (
    OBJECTS,
    RGB,
    GeomsOf,
    Parameter,
    Target,
    object_parameters,
)
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import Controller
from simscaleai.sim.tasks.colors import COLORS, ColorExpert, ColorTask, others, pick, spread
from simscaleai.sim.tasks.reach import Reach, ReachExpert

RADIUS = 0.03  # m; a sphere is reached when the point is inside it
# m, centers of spheres on the table: where the wrist camera sees them before the hand has moved
LOW, HIGH = np.array([0.40, -0.20]), np.array([0.60, 0.20])
# m in y between spheres. From the hand's start, 30 cm up, the straight way to one stays outside the others:
# it comes as low as their tops only in its last 11 %, so 2 cm, of at most 20 cm aside.
GAP = 0.11


class ReachColor(ColorTask, Reach):
    """See the module docstring."""

    name = "reach_color"
    xml = "reach_color.xml"
    instructions = (
        "reach the {color} sphere",
        "move to the {color} ball",
        "touch the {color} sphere",
        "go to the {color} one",
        "bring the hand to the {color} ball",
        "put the gripper on the {color} sphere",
        "the {color} ball is the goal",
        "take the arm over to the {color} sphere",
    )
    held_out = (
        "please reach for the {color} ball",
        "move the hand to the {color} sphere",
        "go and touch the {color} ball",
        "your goal is the {color} one",
        "{color} sphere",
    )
    spheres = tuple(f"{color}_sphere" for color in COLORS)
    mocap_bodies = (*spheres, "latent")
    num_uniforms = 10  # 9 positions of spheres, 1 color
    reward_weights = {**Reach.reward_weights, "wrong": 0.5}
    stages = ("never_reached", "wrong_object")
    threshold = RADIUS
    randomization = (
        Parameter(
            "object_color",
            "add",
            (0.15,) * 3,
            (Target("geom_rgba", OBJECTS, RGB), Target("geom_rgba", GeomsOf(spheres), RGB)),
        ),
        *(p for p in object_parameters() if p.name != "object_color"),
    )

    def __init__(self, model: mujoco.MjModel, controller: Controller) -> None:
        super().__init__(model, controller)
        self.ids = [self.mocap_id(name) for name in self.spheres]

    def initial_state(self, u: Array) -> dict[str, Array]:
        places = spread(u[:, :9], LOW, HIGH, GAP)
        spheres = {
            index: columns(places[:, i, :], 0.0 * u[:, 0] + RADIUS)
            for i, index in enumerate(self.ids)
        }
        return {
            "qpos": self.arm_at_start(u),
            "mocap_pos": self.mocap_pos(spheres | self.place_latent(self.drawn_request(u[:, 9]))),
        }

    def observe(self, sim: Sim) -> dict[str, Array]:
        obs = super().observe(sim)
        del obs["target_pos"]  # it would tell which sphere is wanted
        for color, index in zip(COLORS, self.ids, strict=True):
            obs[f"{color}_pos"] = float32(sim.mocap_pos[:, index, :])
        return obs

    def goal(self, sim: Sim) -> Array:
        return pick(self.objects(sim), self.wanted(sim))

    def objects(self, sim: Sim) -> Array:
        """Return the centers of all spheres, (n, 3, 3) m."""
        return sim.xp.stack([sim.mocap_pos[:, index, :] for index in self.ids], axis=1)

    def post_step(self, sim: Sim) -> None:
        super().post_step(sim)
        # any sphere that the hand touches on its way counts, not only the nearest
        hand = sim.site_xpos[:, self.controller.site, :]
        reached = norm(self.objects(sim) - hand[:, None, :]) < RADIUS
        sim.task_state["wrong"] |= sim.xp.any(reached & others(self.wanted(sim)), axis=1)

    def expert(self) -> Policy:
        return ColorExpert(ReachExpert(self.controller), self, {"target_pos": "pos"})
