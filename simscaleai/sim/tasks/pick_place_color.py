"""Pick up the one of three colored cubes that the instruction names, and place it on the target."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simscaleai.policy import Policy
from simscaleai.sim.arrays import Array, columns, float32
from simscaleai.sim.physics import Sim
from simscaleai.sim.tasks.colors import COLORS, ColorExpert, ColorTask, others, pick, spread
from simscaleai.sim.tasks.pick_place import HALF_SIZE, PickPlace, PickPlaceExpert, is_lifted

# m, centers of cubes and target: where the wrist camera sees them before the hand has moved
LOW, HIGH = np.array([0.40, -0.20]), np.array([0.60, 0.20])
GAP = 0.11  # m in y between any two of them: open fingers reach 5 cm from the middle, a cube 3 cm


class PickPlaceColor(ColorTask, PickPlace):
    """See the module docstring."""

    name = "pick_place_color"
    xml = "pick_place_color.xml"
    instructions = (
        "pick up the {color} cube and place it on the target",
        "put the {color} block on the target",
        "move the {color} cube to the target",
        "grasp the {color} cube and bring it to the goal",
        "take the {color} block to the white disc",
        "lift the {color} cube and set it down on the disc",
        "the {color} cube belongs on the target",
        "place the {color} one on the white disc",
    )
    held_out = (
        "please put the {color} cube on the disc",
        "pick up the {color} block and move it to the target",
        "grasp the {color} one and place it on the goal",
        "bring the {color} cube to the white disc",
        "{color} block to the target",
    )
    mocap_bodies: ClassVar[tuple[str, ...]] = ("target", "latent")
    free_bodies = tuple(f"{color}_cube" for color in COLORS)
    num_uniforms = 16  # 12 positions of cubes and target, 3 yaws, 1 color
    task_state = {**PickPlace.task_state, **ColorTask.task_state}
    reward_weights = {**PickPlace.reward_weights, "wrong": 0.5}
    stages = (*PickPlace.stages, "wrong_object")

    def initial_state(self, u: Array) -> dict[str, Array]:
        # three cubes and, as the fourth, the target, which no cube may hide
        places = spread(u[:, :12], LOW, HIGH, GAP)  # (k, 4, 2)
        target = columns(places[:, 3, :], 0.0 * u[:, 0] + HALF_SIZE)
        return {
            "qpos": self.cubes_at(places, u[:, 12:15]),
            "mocap_pos": self.mocap_pos(
                {self.target: target, **self.place_latent(self.drawn_request(u[:, 15]))}
            ),
        }

    def observe(self, sim: Sim) -> dict[str, Array]:
        obs = super().observe(sim)
        del obs["object_pos"], obs["object_quat"]
        for color, position, quat in zip(COLORS, self.positions, self.quaternions, strict=True):
            obs[f"{color}_pos"] = float32(sim.qpos[:, position])
            obs[f"{color}_quat"] = float32(sim.qpos[:, quat])
        return obs

    def objects(self, sim: Sim) -> Array:
        """Centers of all cubes, (n, 3, 3) m."""
        return sim.xp.stack([sim.qpos[:, position] for position in self.positions], axis=1)

    def cube(self, sim: Sim) -> Array:
        return pick(self.objects(sim), self.wanted(sim))

    def post_step(self, sim: Sim) -> None:
        super().post_step(sim)
        lifted = is_lifted(self.objects(sim))  # (n, 3)
        sim.task_state["wrong"] |= sim.xp.any(lifted & others(self.wanted(sim)), axis=1)

    def expert(self) -> Policy:
        return ColorExpert(
            PickPlaceExpert(self.controller), self, {"object_pos": "pos", "object_quat": "quat"}
        )
