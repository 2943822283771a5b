"""Which stage of its task an episode works on, step by step, found from its recorded states.

A task names the stages at which an episode can fail (`Task.stage`). The stage at which an episode would fail
if it ended at step t is the one that it works on at step t. Nothing is simulated: each state is loaded,
with the controls that the action before it commanded, and the task looks at it.
"""

from __future__ import annotations

import numpy as np

from simscaleai.datagen.recorded_states import check_states, recorded_contract
from simscaleai.errors import UserError
from simscaleai.rollout.env_checks import task_of
from simscaleai.rollout.outcomes import InfoSummary
from simscaleai.sim.factory import make_vec_env
from simscaleai.storage.episodes import EpisodeSource
from simscaleai.storage.lerobot.subtask_rows import Subtasks

_SENTENCES = {
    "never_reached": "reach the target",
    "missed_grasp": "grasp the object and lift it",
    "dropped": "pick the object up again",
    "misplaced": "bring the object to its place",
    "hit_post": "go around the post",
}
"""What to do at a stage, which has the name of the failure there; others are written out as they are."""


class SubtaskFinder:
    """Finds the subtasks of the episodes of an open dataset.

    Attributes:
      stages: names of the task's stages.

    Raises:
      UserError: the dataset does not say in which environment it was made, or its task has no stages.
    """

    def __init__(self, data: EpisodeSource) -> None:
        self._data = data
        contract = recorded_contract(data, "exported with subtasks")
        settings = {**contract.env_config, "cameras": []}
        self._env = make_vec_env(contract.env_name, 1, **settings)
        task = task_of(self._env)
        self.stages = () if task is None else task.stages
        if len(self.stages) < 2:
            self.close()
            raise UserError(
                f"The task {contract.env_name!r} of {data.path} has no two stages; do without stages."
            )
        check_states(data, self._env)

    def find(self, i: int) -> Subtasks:
        """Return the subtasks of episode i, each with the step at which it begins."""
        return [
            (step, _SENTENCES.get(stage, stage.replace("_", " ")))
            for step, stage in self._changes(i)
        ]

    def stage(self, i: int) -> str:
        """Return the stage of episode i before its last action: where it ended, if it failed."""
        return self._changes(i)[-1][1]

    def _changes(self, i: int) -> list[tuple[int, str]]:
        """Return (first step, stage) of episode i, in order."""
        task, sim = self._env.task, self._env.sim
        self._env.reset(seed=0)  # clears the task's state
        summary = InfoSummary(1)
        found: list[tuple[int, str]] = []
        states, actions = self._data.read(i, "states"), self._data.read(i, "actions")
        for step, state in enumerate(states):
            if step:
                # whether fingers hold something depends on their targets, which no state contains
                task.controller.apply(sim, actions[step - 1 : step])
            sim.load_states(state[None])
            if not step:
                task.controller.reset(sim, np.array([True]))
            task.post_step(sim)
            summary.add(task.info(sim), np.array([step == 0]))
            stage = self.stages[int(task.stage(summary.summary())[0])]
            if not found or found[-1][1] != stage:
                found.append((step, stage))
        return found

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
