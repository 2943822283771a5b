"""Put the cube that the instruction names on the disc that it names: a color and a place in one sentence.

Three cubes and three discs give nine pairs. The discs look alike, so that a place is a relation ("the left
disc" as the robot sees it) and no color. One pair, the blue cube on the middle disc, is in no dataset: a
policy that has composed it from "blue" and "middle", which it knows from other pairs, has learned words and
not sentences. `use_phrasings("new_combination")` asks for that pair alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.policy import Policy
from simscaleai.sim.arrays import (
    Array,
    array_namespace,
    columns,
    copied,
    float32,
    like,
    norm,
    number,
)
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import Controller
from simscaleai.sim.tasks.colors import COLORS, ColorExpert, others, pick, spread
from simscaleai.sim.tasks.pick_place import HALF_SIZE, THRESHOLD, PickPlaceExpert
from simscaleai.sim.tasks.pick_place_color import PickPlaceColor

PLACES = ("left", "middle", "right")  # as the robot sees them: left is towards +y
NEW = "blue_middle"
# m, centers on the table, near to far: cubes and discs where the wrist camera sees them before the hand moves
CUBE_LOW, CUBE_HIGH = np.array([0.40, -0.20]), np.array([0.48, 0.20])
DISC_LOW, DISC_HIGH = np.array([0.57, -0.20]), np.array([0.60, 0.20])
CUBE_GAP = 0.11  # m in y: open fingers reach 5 cm from the middle, a cube 3 cm
DISC_GAP = 0.12  # m in y: twice the threshold, and room between rings of 8.4 cm
ORDER = np.array([[0.9, 0.5, 0.1]])  # sorted: the first disc has the largest y


class Sort(PickPlaceColor):
    """See the module docstring; the latent is an index into `all_requests`."""

    name = "sort"
    xml = "sort.xml"
    instructions = (
        "put the {color} cube on the {place} disc",
        "move the {color} block to the {place} disc",
        "pick up the {color} cube and place it on the disc on the {place}",
        "grasp the {color} cube and bring it to the {place} target",
        "the {color} block belongs on the {place} disc",
        "take the {color} one to the {place} disc",
        "on the {place} disc goes the {color} cube",
        "sort the {color} cube to the {place}",
    )
    held_out = (
        "please put the {color} block on the {place} disc",
        "move the {color} cube to the target on the {place}",
        "grasp the {color} one and place it on the {place} disc",
        "bring the {color} cube to the {place} disc",
        "the {color} cube goes to the {place}",
    )
    requests = tuple(
        f"{color}_{place}" for color in COLORS for place in PLACES if f"{color}_{place}" != NEW
    )
    new_requests = (NEW,)
    categories = (*requests, NEW)
    words = {
        f"{color}_{place}": {"color": color, "place": place} for color in COLORS for place in PLACES
    }
    mocap_bodies = (*(f"{place}_disc" for place in PLACES), "latent")
    num_uniforms = 19
    task_state = {**PickPlaceColor.task_state, "wrong_place": bool}
    reward_weights = {**PickPlaceColor.reward_weights, "wrong_place": 0.5}
    stages = (*PickPlaceColor.stages, "wrong_place")

    def __init__(self, model: mujoco.MjModel, controller: Controller) -> None:
        super().__init__(model, controller)
        self.discs = [self.mocap_id(name) for name in self.mocap_bodies[:-1]]
        parts = [request.split("_") for request in self.all_requests]
        # color and place of each request, by its index
        self._colors = np.array([COLORS.index(color) for color, _ in parts])
        self._places = np.array([PLACES.index(place) for _, place in parts])

    def initial_state(self, u: Array) -> dict[str, Array]:
        xp = array_namespace(u)
        cubes = spread(u[:, :9], CUBE_LOW, CUBE_HIGH, CUBE_GAP)  # (k, 3, 2)
        order = xp.broadcast_to(like(ORDER, u), (u.shape[0], 3))
        placed = xp.concat([u[:, 9:12], order, u[:, 12:15]], axis=1)
        discs = spread(placed, DISC_LOW, DISC_HIGH, DISC_GAP)  # (k, 3, 2), from left to right
        height = 0.0 * u[:, 0] + HALF_SIZE
        bodies = {index: columns(discs[:, i, :], height) for i, index in enumerate(self.discs)}
        return {
            "qpos": self.cubes_at(cubes, u[:, 15:18]),
            "mocap_pos": self.mocap_pos(bodies | self.place_latent(self.drawn_request(u[:, 18]))),
        }

    def observe(self, sim: Sim) -> dict[str, Array]:
        obs = super().observe(sim)
        del obs["target_pos"]
        for place, index in zip(PLACES, self.discs, strict=True):
            obs[f"{place}_pos"] = float32(sim.mocap_pos[:, index, :])
        return obs

    def wanted(self, sim: Sim | None = None) -> Array:
        latent = self.latent(sim)
        return array_namespace(latent).take(like(self._colors, latent), latent)

    def wanted_place(self, sim: Sim | None = None) -> Array:
        """Return the index in `PLACES` of the disc that each instruction names, (n,) int64."""
        latent = self.latent(sim)
        return array_namespace(latent).take(like(self._places, latent), latent)

    def goal(self, sim: Sim) -> Array:
        return pick(self._disc_centers(sim), self.wanted_place(sim))

    def _disc_centers(self, sim: Sim) -> Array:
        """Where the center of a cube on each disc is, (n, 3, 3) m."""
        return sim.xp.stack([sim.mocap_pos[:, index, :] for index in self.discs], axis=1)

    def post_step(self, sim: Sim) -> None:
        super().post_step(sim)
        away = norm(self._disc_centers(sim) - self.cube(sim)[:, None, :])  # (n, 3)
        there = (away < THRESHOLD) & others(self.wanted_place(sim))
        # a cube has to be lifted first, as for success
        sim.task_state["wrong_place"] |= sim.task_state["lifted"] & sim.xp.any(there, axis=1)

    def info(self, sim: Sim) -> dict[str, Array]:
        measured = super().info(sim)
        wrong = copied(sim.task_state["wrong_place"])
        return {
            **measured,
            "wrong_place": wrong,
            "request": self.latent(sim),
            "success": measured["success"] & ~wrong,
        }

    def reward_terms(self, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        terms = super().reward_terms(info, action)
        return {**terms, "wrong_place": -1.0 * number(info["wrong_place"])}

    def stage(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        stages, wrong_place = super().stage(summary), self.stages.index("wrong_place")
        # an episode that lifted another cube failed at that, wherever it was put
        misplaced = summary["ever_wrong_place"] & ~summary["ever_wrong"]
        return np.where(misplaced, wrong_place, stages)

    def category(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        return summary["request"]

    def expert(self) -> Policy:
        return SortExpert(self)


class SortExpert(ColorExpert):
    """Shows `PickPlaceExpert` the cube and the disc that are meant."""

    def __init__(self, task: Sort) -> None:
        names = {"object_pos": "pos", "object_quat": "quat"}
        super().__init__(PickPlaceExpert(task.controller), task, names)
        self._sort = task

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        discs = [obs[f"{place}_pos"] for place in PLACES]  # (n, 3) each
        stacked = array_namespace(discs[0]).stack(discs, axis=1)
        return super().act({**obs, "target_pos": pick(stacked, self._sort.wanted_place())})
