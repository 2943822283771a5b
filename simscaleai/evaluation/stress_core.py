"""Episodes in which one thing is other than in training: a `TaskCore` with a perturbation.

    envs = make_vec_env("pick_place", 8)
    perturb(envs, ActionDelay(2))

Promises: what a perturbation does in an episode is a function of the episode's seed alone, and not of the
env or of its neighbors. It draws the same numbers at every level, so that episodes of two levels differ in
nothing but the level. At level 0 nothing changes, bit by bit, although all of the code runs.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simscaleai import seeding
from simscaleai.array_types import Array, BoolArray, FloatArray
from simscaleai.sim.core import ObsDict, TaskCore
from simscaleai.sim.physics import EnvIds
from simscaleai.sim.vector_env import TaskVectorEnv


class Perturbation:
    """One thing that is changed, by `level`; a subclass overrides the moments at which it changes.

    Attributes:
      stream: the stream of its random numbers, see `seeding`.
      level: how far, in the unit of its axis.
    """

    stream: ClassVar[str]

    def __init__(self, level: float) -> None:
        self.level = level

    def prepare(self, core: TaskCore) -> None:
        """Look at the environment, once, before its first episode."""

    def change_models(self, core: TaskCore, env_ids: EnvIds) -> None:
        """Change the models of `env_ids` (k,), before they are reset."""

    def change_states(self, core: TaskCore, env_ids: EnvIds) -> None:
        """Change the initial states of `env_ids` (k,), once they are written."""

    def change_actions(self, core: TaskCore, actions: FloatArray) -> FloatArray:
        """Return what is executed for the policy's actions (n, action_dim)."""
        return actions

    def change_observations(self, core: TaskCore, obs: ObsDict) -> ObsDict:
        """Return what the policy sees of observations {key: (n, ...)}."""
        return obs

    def change_instruction(self, core: TaskCore, env_id: int, instruction: str) -> str:
        """Return what the policy is asked in words."""
        return instruction

    def generator(self, core: TaskCore, env_id: int) -> np.random.Generator:
        """Return the generator of what is drawn once in the present episode of an env."""
        assert core.seeds is not None
        return seeding.generator(core.seeds[env_id], self.stream, int(core.episodes[env_id]))

    def step_noise(self, core: TaskCore, shape: tuple[int, ...]) -> FloatArray:
        """Return standard normal numbers (n, *shape) for the present step of every episode."""
        assert core.seeds is not None
        noise = np.empty((core.sim.n, *shape))
        # an env may be observed several times in one step, and gets the same noise each time
        # a generator for each env and step takes 20 us, and makes noise independent of what ran before
        for i, (seed, step) in enumerate(zip(core.seeds, core.steps.tolist(), strict=True)):
            noise[i] = seeding.generator(seed, f"{self.stream} step", step).standard_normal(shape)
        return noise


class ModelFields:
    """Fields of the model that a perturbation changes, one copy for each env.

    Args:
      names: MjModel fields.
    """

    def __init__(self, core: TaskCore, names: tuple[str, ...]) -> None:
        self._values = {name: core.sim.parameter(name) for name in names}
        self._nominal = {name: values[0].copy() for name, values in self._values.items()}

    def reset(self, core: TaskCore, env_ids: EnvIds) -> None:
        """Put the fields of `env_ids` at what they are without the perturbation."""
        randomized = core.randomizer.values if core.randomizer is not None else {}
        for name, values in self._values.items():
            # those that randomization has just written stay, and are changed on top of it
            if name not in randomized:
                values[env_ids] = self._nominal[name]

    def __getitem__(self, name: str) -> Array:
        """The field of all envs, (n, ...), for writing."""
        return self._values[name]


class StressedCore(TaskCore):
    """The episodes of a core with a perturbation.

    Args:
      core: as made; not to be used any more.
      perturbation: what is changed in every episode.
    """

    def __init__(self, core: TaskCore, perturbation: Perturbation) -> None:
        super().__init__(core.task, core.sim, core.config, core.renderer, core.substeps)
        self.perturbation = perturbation
        perturbation.prepare(self)

    def set_models(self, env_ids: EnvIds) -> None:
        super().set_models(env_ids)
        self.perturbation.change_models(self, env_ids)

    def place(self, env_ids: EnvIds, u: FloatArray) -> None:
        super().place(env_ids, u)
        self.perturbation.change_states(self, env_ids)

    def act(self, actions: FloatArray, env_ids: EnvIds | None = None) -> None:
        # the reward is still that of what the policy wanted
        super().act(self.perturbation.change_actions(self, actions), env_ids)

    def observe(self, changed: EnvIds | None = None) -> ObsDict:
        return self.perturbation.change_observations(self, super().observe(changed))

    def instruction(self, env_id: int) -> str:
        instruction = super().instruction(env_id)
        return self.perturbation.change_instruction(self, env_id, instruction)


def perturb(env: TaskVectorEnv, perturbation: Perturbation) -> None:
    """Change what happens in an environment from its first reset on."""
    env.core = StressedCore(env.core, perturbation)


def of_objects(core: TaskCore) -> BoolArray:
    """Return which bodies can move and are no part of the robot, (nbody,) bool."""
    model = core.sim.model
    tree = model.body_treeid[model.jnt_bodyid[core.task.controller.joints.start]]
    return (model.body_treeid >= 0) & (model.body_treeid != tree)
