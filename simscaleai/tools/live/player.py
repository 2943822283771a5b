"""A policy at work in real time: what `viz-live` shows, in whichever viewer.

    player = Player(env, policy)
    while viewer_is_open:
        player.tick()
        draw(player.model, player.data)

The policy acts 20 times a second and a viewer draws 60 frames. So `player.data` is not the simulation but
a copy that moves evenly between its last two states, one control step late. What the user of a viewer does
to this copy (pushing a body, dragging the goal) happens to the simulation at its next control step; what
else a viewer writes into it is overwritten.
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
REST = 0.5  # s that the end of an episode stays in view
MOST = (
    0.1  # s of wall time that one tick makes up for; a slow policy runs slowly, and answers still
)


class Player:
    """Runs the episodes that `simscale eval --seed` would, one after the other.

    Attributes:
      model, data: what there is to draw.
      speed: simulated seconds in a second.
      paused: whether time stands still.
      finished, successes: episodes that ended, and those of them that succeeded.
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
        """Which episode this is, and how the ones before it went."""
        return f"Episode {self._episode + 1} | {self.successes} of {self.finished} succeeded"

    def begin(self) -> None:
        """Start the next episode."""
        self._episode += 1
        seed = episode_seed(self._seed, self._episode)
        self._steps = run_episodes(self.env, self.policy, [seed])
        self._rollout = next(self._steps)  # reset, and no step taken
        self._rest: float | None = None  # s left of the rest after an episode
        self._before = self.env.data.qpos.copy()
        self._since = self._dt  # s since `_before`; a whole step: the next one is due
        self.data.xfrc_applied[:] = 0.0
        self._show()

    def tick(self) -> None:
        """Go on by the time that passed since the last tick."""
        now = time.perf_counter()
        passed, self._clock = min(now - self._clock, MOST), now
        if not self.paused:
            self.advance(passed * self.speed)

    def advance(self, seconds: float) -> None:
        """Go on by `seconds` of simulated time."""
        for field in ("xfrc_applied", "mocap_pos", "mocap_quat"):  # the user's hands
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
    """Let `player` go on, and draw frame after frame, until `draw` returns False."""
    while draw():
        start = time.perf_counter()
        player.tick()
        time.sleep(max(0.0, FRAME - (time.perf_counter() - start)))
