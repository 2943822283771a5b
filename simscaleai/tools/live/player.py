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

from simscaleai.evaluation.suite import episode_seed
from simscaleai.policy import Policy
from simscaleai.rollout.loop import run_episodes
from simscaleai.sim.task_env import TaskEnv

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
      finished, successes: numbers of ended and of successful episodes.
    """

    def __init__(self, env: TaskEnv, policy: Policy, seed: int = 0, speed: float = 1.0) -> None:
        self.env = env
        self.policy = policy
        self.model = copy.copy(env.model)
        self.data = mujoco.MjData(self.model)
        self.speed = speed
        self.paused = False
        self.finished = 0
        self.successes = 0
        self._dt = env.config.control_dt
        self._velocity = np.zeros(self.model.nv)
        self._seed = seed
        self._episode = -1
        self._clock = time.perf_counter()
        self.begin()

    @property
    def status(self) -> str:
        """Number of this episode, and the successes so far."""
        return f"Episode {self._episode + 1} | {self.successes} of {self.finished} succeeded"

    def begin(self) -> None:
        """Start the next episode."""
        self._episode += 1
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
            self.finished += 1
            self.successes += bool(self._rollout.info["success"])

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
