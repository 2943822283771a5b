"""What the tasks with a red, a green and a blue thing share: the instruction says which one is meant.

The observation shows where all three are and nothing of which one is wanted; `info["wanted"]` does. An
episode that takes a wrong one first does not succeed any more: going through all three is not following.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai.policy import Policy
from simscaleai.sim.arrays import Array, array_namespace, copied, like, number
from simscaleai.sim.physics import Sim
from simscaleai.sim.tasks.instructed import InstructedTask
from simscaleai.sim.tasks.latent import LatentTask

COLORS = ("red", "green", "blue")


class ColorTask(InstructedTask):
    """Stands before the task that it changes: `class ReachColor(ColorTask, Reach)`.

    `instructions` and `held_out` of a subclass have "{color}" in them.
    """

    requests = COLORS
    categories = COLORS
    words = {color: {"color": color} for color in COLORS}
    task_state = {**InstructedTask.task_state, "wrong": bool}

    def info(self, sim: Sim) -> dict[str, Array]:
        measured = super().info(sim)
        wrong = copied(sim.task_state["wrong"])
        return {**measured, "wrong": wrong, "success": measured["success"] & ~wrong}

    def reward_terms(self, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        terms = super().reward_terms(info, action)  # type: ignore[safe-super] # likewise
        return {**terms, "wrong": -1.0 * number(info["wrong"])}

    def stage(self, summary: Mapping[str, NDArray[Any]]) -> NDArray[np.intp]:
        wrong = self.stages.index("wrong_object")
        return np.where(summary["ever_wrong"], wrong, super().stage(summary))

    def category(self, summary: Mapping[str, NDArray[Any]]) -> NDArray[np.intp]:
        return summary["wanted"]


class ColorExpert:
    """`expert`, which knows a single object, shown the wanted one.

    Args:
      names: {key that `expert` reads: what follows "<color>_" in the key of each colour}.
    """

    def __init__(self, expert: Policy, task: LatentTask, names: Mapping[str, str]) -> None:
        self._expert = expert
        self._task = task
        self._names = names

    def reset(
        self,
        mask: NDArray[np.bool_],
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        self._expert.reset(mask, seeds)

    def act(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        wanted = self._task.latent()
        shown = dict(obs)
        for key, name in self._names.items():
            each = [obs[f"{c}_{name}"] for c in COLORS]
            shown[key] = pick(array_namespace(each[0]).stack(each, axis=1), wanted)
        return self._expert.act(shown)


def pick(values: Array, wanted: Array) -> Array:
    """Of values (n, 3, d) the wanted one's, (n, d); `wanted` (n,) counts in the order of `COLORS`."""
    xp = array_namespace(values)
    return xp.take_along_axis(values, wanted[:, None, None], axis=1)[:, 0, :]


def others(wanted: Array) -> Array:
    """Which of the three are not wanted, (n, 3) bool."""
    return like(np.arange(len(COLORS)), wanted) != wanted[:, None]


def spread(u: Array, low: NDArray[np.float64], high: NDArray[np.float64], gap: float) -> Array:
    """Places (k, m, 2) on the table of m things, in random order, whose y are at least `gap` apart.

    Args:
      u: (k, 3 m) uniform numbers.
      low, high: (2,) m, the rectangle they are in.
      gap: m; (m - 1) of it must fit into the rectangle.
    """
    m = u.shape[1] // 3
    (x_low, y_low), (x_high, y_high) = low.tolist(), high.tolist()
    free = y_high - y_low - (m - 1) * gap
    assert free > 0
    xp = array_namespace(u)
    y = y_low + xp.sort(u[:, :m], axis=1) * free + like(gap * np.arange(m), u)
    order = xp.argsort(u[:, m : 2 * m], axis=1)
    x = x_low + u[:, 2 * m :] * (x_high - x_low)
    return xp.stack((x, xp.take_along_axis(y, order, axis=1)), axis=-1)
