"""Where the gripper went over the table in the episodes of an evaluation, for figures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simscaleai.rollout.loop import Recorder, Rollout

HandPath = NDArray[np.float32]
"""(T + 1, 2) x and y in the world frame, m, at the start and after each control step."""

HAND = "ee_pos"


class PathRecorder(Recorder):
    """Records the gripper's path in up to `max_episodes` episodes.

    Nothing is recorded in environments whose observation has no `ee_pos` (n, 3).

    Attributes:
      paths: {(seed, instruction) of the episode: path} of the episodes that ended.
    """

    def __init__(self, max_episodes: int = 200) -> None:
        self._max = max_episodes
        self.paths: dict[tuple[int, str], HandPath] = {}
        self._running: dict[int, list[NDArray[np.float32]]] = {}  # by env

    def begin(self, rollout: Rollout) -> None:
        for env_id in np.flatnonzero(rollout.begun & (rollout.episode >= 0)):
            self._running[int(env_id)] = []
        self._record(rollout, rollout.begun)

    def after_step(self, rollout: Rollout) -> None:
        self._record(rollout, rollout.episode >= 0)
        for env_id in map(int, rollout.ended):
            places = self._running.pop(env_id, [])
            if places and len(self.paths) < self._max:
                instruction = rollout.instructions[env_id] if rollout.instructions else ""
                self.paths[rollout.seeds[env_id], instruction] = np.stack(places)

    def _record(self, rollout: Rollout, mask: NDArray[np.bool_]) -> None:
        hand = rollout.obs.get(HAND) if isinstance(rollout.obs, dict) else None
        if hand is None or hand.shape != (rollout.num_envs, 3):
            return
        for env_id in np.flatnonzero(mask):
            if int(env_id) in self._running:
                # a copy: environments may reuse the array
                self._running[int(env_id)].append(hand[env_id, :2].astype(np.float32))
