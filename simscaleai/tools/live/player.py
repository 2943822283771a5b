"""Run a policy in real time for any viewer.

    player = Player(env, policy)
    while viewer_is_open:
        player.tick()
        draw(player.model, player.data)

The policy acts 20 times per second, and a viewer draws 60 frames. Therefore `player.data` is not the
simulation but a copy that is interpolated between the last two states, one control step late. Changes that
the user of a viewer makes to the copy (pushing a body, dragging the goal) are applied to the simulation at
its next control step; all other changes are overwritten.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import mujoco
import numpy as np

from simscaleai.errors import UserError
from simscaleai.evaluation.suite import episode_seed
from simscaleai.infos import read_success
from simscaleai.policy import Policy
from simscaleai.rollout.env_checks import name_of, task_of
from simscaleai.rollout.loop import run_episodes
from simscaleai.sim.policy_env import PolicyEnv
from simscaleai.sim.task_env import TaskEnv
from simscaleai.sim.tasks.instructed import InstructedTask

LiveEnv = TaskEnv | PolicyEnv

FRAME = 1 / 60  # s
REST = 0.5  # s for which the end of an episode is shown
# Longest wall time that a tick simulates, s. With a slow policy, time runs slower, but the viewer responds.
MOST = 0.1


class Player:
    """Runs the episodes of `simscale eval --seed`, one after the other.

    Attributes:
      model, data: model and state to draw.
      speed: simulated seconds per second.
      paused: whether time stands still.
      finished, successes: numbers of ended and of successful episodes of this policy and instruction, without
        those whose instruction does not say what it asks for.
    """

    env: LiveEnv
    model: mujoco.MjModel
    data: mujoco.MjData

    def __init__(self, env: LiveEnv, policy: Policy, seed: int = 0, speed: float = 1.0) -> None:
        self.speed = speed
        self.paused = False
        self._seed = seed
        self._episode = 0
        self._said: str | None = None  # by `say`
        self._counts = True  # whether success of the present episode means something
        self._clock = time.perf_counter()
        self.play(env, policy)

    def play(self, env: LiveEnv, policy: Policy) -> None:
        """Start the present episode anew, with another policy and perhaps another environment.

        `model` and `data` are new ones if the environment is. An instruction of the user's stays, if the task
        takes one.
        """
        if not hasattr(self, "env") or env is not self.env:
            self.model = copy.copy(env.model)
            self.data = mujoco.MjData(self.model)
        self.env = env
        self.policy = policy
        self.finished = 0
        self.successes = 0
        self._dt = env.config.control_dt
        self._velocity = np.zeros(self.model.nv)
        if not self.listens:
            self._said, self._counts = None, True
        elif self._said is not None:
            self._fix_instruction()
        self._start()

    @property
    def status(self) -> str:
        """Number of this episode, and the successes so far."""
        return f"Episode {self._episode + 1} | {self.successes} of {self.finished} succeeded"

    @property
    def instruction(self) -> str:
        """Instruction of the present episode; "" if it has none."""
        instructions = self._rollout.instructions
        return instructions[0] if instructions else ""

    @property
    def counts(self) -> bool:
        """Whether episodes are counted: not if nobody knows what the user's instruction asks for."""
        return self._counts

    @property
    def listens(self) -> bool:
        """Whether the task takes instructions."""
        task = task_of(self.env)
        return task is not None and len(task.instructions) > 1

    def say(self, sentence: str | None) -> None:
        """Give the present and all further episodes an instruction.

        The policy gets it at once, and the scene stays as it is. None restores the task's own instructions,
        from the next episode on.

        Raises:
          UserError: the task takes no instruction.
        """
        if not self.listens:
            raise UserError(
                f"{name_of(self.env)} asks for the same thing in every episode, and takes no instruction."
            )
        # the present episode goes on with the old sentence if there is no new one
        counted = self._counts or sentence is not None
        self._said = sentence
        self._fix_instruction()
        self._counts &= counted
        self.finished = self.successes = 0
        if sentence is None or self._rollout.instructions is None:
            return
        task = task_of(self.env)
        if isinstance(task, InstructedTask):
            task.ask_now(self.env.sim, np.zeros(1, dtype=np.intp))
            self.data.mocap_pos[:] = self.env.data.mocap_pos  # or the old request would come back
        self._rollout.instructions[0] = sentence
        # what was planned for the old instruction is dropped
        self.policy.reset(np.ones(1, dtype=bool), self._rollout.seeds, [sentence])

    def _fix_instruction(self) -> None:
        task = task_of(self.env)
        self._counts = True if task is None else task.say(self._said)

    def begin(self) -> None:
        """Start the next episode."""
        self._episode += 1
        self._start()

    def _start(self) -> None:
        self._counts |= self._said is None
        seed = episode_seed(self._seed, self._episode)
        self._steps = run_episodes(self.env, self.policy, [seed])
        self._rollout = next(self._steps)  # the reset
        self._rest: float | None = None  # s for which the ended episode is still shown
        self._before = self.env.data.qpos.copy()
        self._since = self._dt  # s since `_before`; after a full step, the next one is due
        self.data.xfrc_applied[:] = 0.0
        self._show()

    def tick(self) -> None:
        """Advance by the wall time since the last tick."""
        now = time.perf_counter()
        passed, self._clock = min(now - self._clock, MOST), now
        if not self.paused:
            self.advance(passed * self.speed)

    def advance(self, seconds: float) -> None:
        """Advance by `seconds` of simulated time."""
        for field in ("xfrc_applied", "mocap_pos", "mocap_quat"):  # what the user can drag
            getattr(self.env.data, field)[:] = getattr(self.data, field)
        self._since += seconds
        while self._since >= self._dt:
            self._since -= self._dt
            self._step()
        self._show()

    def _step(self) -> None:
        self._before = self.env.data.qpos.copy()
        if self._rest is not None:
            self._rest -= self._dt
            if self._rest <= 0:
                self.begin()
            return
        next(self._steps)
        if len(self._rollout.ended):
            self._rest = REST
            if self._counts:
                self.finished += 1
                self.successes += bool(read_success(self._rollout.info)[0][0])

    def _show(self) -> None:
        live, shown = self.env.data, self.data
        mujoco.mj_differentiatePos(self.model, self._velocity, self._dt, self._before, live.qpos)
        shown.qpos[:] = self._before
        mujoco.mj_integratePos(self.model, shown.qpos, self._velocity, self._since)
        for field in ("time", "qvel", "ctrl", "mocap_pos", "mocap_quat"):
            value = getattr(live, field)
            setattr(shown, field, value)
        mujoco.mj_forward(self.model, shown)


def play(player: Player, draw: Callable[[], bool]) -> None:
    """Advance `player` and draw frames until `draw` returns False."""
    while draw():
        start = time.perf_counter()
        player.tick()
        time.sleep(max(0.0, FRAME - (time.perf_counter() - start)))
