"""Common parts of tasks with a red, a green and a blue object, of which the instruction names one.

The observation has the positions of all three objects, but not which one is wanted; `info["wanted"]` says it
for statistics. After a wrong object an episode cannot succeed any more, since trying all three in turn is
not following the instruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray, FloatArray
from simscaleai.policy import Policy
from simscaleai.sim.arrays import Array, array_namespace, copied, like, number
from simscaleai.sim.physics import Sim
from simscaleai.sim.tasks.instructed import InstructedTask

COLORS = ("red", "green", "blue")  # a latent is an index into these


class ColorTask(InstructedTask):
    """Mixin for a task with one object, before it in the bases: `class ReachColor(ColorTask, Reach)`.

    `instructions` and `held_out` of a subclass have "{color}" in them.
    """

    requests: ClassVar[tuple[str, ...]] = COLORS
    categories: ClassVar[tuple[str, ...]] = COLORS
    words = {color: {"color": color} for color in COLORS}
    task_state = {**InstructedTask.task_state, "wrong": bool}

    def info(self, sim: Sim) -> dict[str, Array]:
        measured = super().info(sim)
        # a copy: the task state goes on changing while callers keep the info
        wrong = copied(sim.task_state["wrong"])
        return {**measured, "wrong": wrong, "success": measured["success"] & ~wrong}

    def reward_terms(self, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        terms = super().reward_terms(info, action)  # type: ignore[safe-super] # likewise
        return {**terms, "wrong": -1.0 * number(info["wrong"])}

    def stage(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        wrong = self.stages.index("wrong_object")
        return np.where(summary["ever_wrong"], wrong, super().stage(summary))

    def category(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        return summary["wanted"]


class ColorExpert:
    """Makes `expert`, which knows a single object, act on the wanted one.

    Args:
      expert: the expert of the task with one object.
      task: where the latents, the wanted colors, are read.
      names: {key that `expert` reads: suffix of the keys "<color>_<suffix>" of this task}.
    """

    def __init__(self, expert: Policy, task: InstructedTask, names: Mapping[str, str]) -> None:
        self._expert = expert
        self._task = task
        self._names = names

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        self._expert.reset(mask, seeds)

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        wanted = self._task.wanted()
        shown = dict(obs)
        for key, name in self._names.items():
            each = [obs[f"{c}_{name}"] for c in COLORS]  # 3 x (n, d)
            shown[key] = pick(array_namespace(each[0]).stack(each, axis=1), wanted)
        return self._expert.act(shown)


def pick(values: Array, wanted: Array) -> Array:
    """Return from values (n, 3, d) those of the wanted objects, (n, d); wanted (n,) indexes `COLORS`."""
    xp = array_namespace(values)
    return xp.take_along_axis(values, wanted[:, None, None], axis=1)[:, 0, :]


def others(wanted: Array) -> Array:
    """Return which of the three objects are not wanted, (n, 3) bool, for wanted (n,)."""
    return like(np.arange(len(COLORS)), wanted) != wanted[:, None]


def spread(u: Array, low: FloatArray, high: FloatArray, gap: float) -> Array:
    """Return positions (k, m, 2) of m objects on the table, in random order, at least `gap` apart in y.

    Args:
      u: (k, 3 m) uniform numbers.
      low, high: (2,) corners of the rectangle of positions, m.
      gap: m; (m - 1) gaps must fit into the rectangle.
    """
    m = u.shape[1] // 3
    (x_low, y_low), (x_high, y_high) = low.tolist(), high.tolist()
    free = y_high - y_low - (m - 1) * gap
    assert free > 0
    xp = array_namespace(u)
    # sorted uniforms in the length that the gaps leave free; a gap is added between neighbors
    y = y_low + xp.sort(u[:, :m], axis=1) * free + like(gap * np.arange(m), u)
    # a random permutation: which object gets which y
    order = xp.argsort(u[:, m : 2 * m], axis=1)
    x = x_low + u[:, 2 * m :] * (x_high - x_low)
    return xp.stack((x, xp.take_along_axis(y, order, axis=1)), axis=-1)
