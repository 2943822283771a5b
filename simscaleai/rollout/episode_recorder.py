"""Episodes as a dataset stores them, recorded while they run in the envs of a `TaskVectorEnv`.

Recording is columnar: one copy per key and step, of all envs, into ring buffers (max_steps, n, ...); an
episode is cut out of its column when it ends. Where instructions ask for different things, the task's expert
labels every state for each of them (`Task.actions_by_instruction`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simscaleai.array_types import Array, ArrayDict
from simscaleai.infos import read_success
from simscaleai.json_types import JsonDict
from simscaleai.policy import Policy
from simscaleai.rollout.loop import Recorder, Rollout
from simscaleai.storage.episode import LABELS, NEXT_OBS, OBS, Episode


class EpisodeRecorder(Recorder):
    """See the module docstring.

    Args:
      max_steps: the most steps of an episode.
      next_obs: also record the observation after each action, that after the last one included.
      expert_labels: record as actions what the task's expert would do, whichever policy acts.

    Attributes:
      finished: the episodes that ended with the newest step; `index` is their position in the seeds.
    """

    def __init__(self, max_steps: int, next_obs: bool = False, expert_labels: bool = False) -> None:
        self.finished: list[Episode] = []
        self._max_steps, self._next_obs = max_steps, next_obs
        self._expert_labels = expert_labels
        self._buffers: ArrayDict = {}  # (max_steps, n, ...)
        self._same: dict[str, str] = {}  # {key: the key of the buffer that has its images}
        self._step = 0  # of all envs
        self._start = np.zeros(0, dtype=np.int64)  # (n,) the step at which each env's episode began
        self._randomization: list[JsonDict] = []  # n: the draws of each env's episode
        self._expert: Policy | None = None  # labels states, whichever policy acts

    def begin(self, rollout: Rollout) -> None:
        self.finished = []
        if not self._randomization:
            self._start = np.zeros(rollout.num_envs, dtype=np.int64)
            self._randomization = [{} for _ in range(rollout.num_envs)]
            if self._expert_labels or rollout.env.env.contract.instructions:
                self._expert = rollout.env.env.task.expert()
        if self._expert is not None:
            self._expert.reset(rollout.begun, rollout.seeds, rollout.instructions)
        self._start[rollout.begun] = self._step
        # info of a reset has {parameter: (n, ...)}, also of envs that were not reset
        drawn = rollout.info.get("randomization", {})
        for env_id in map(int, np.flatnonzero(rollout.begun)):
            self._randomization[env_id] = _json_values(drawn, env_id)

    def before_step(self, rollout: Rollout) -> None:
        self._store_obs(OBS, rollout.obs)
        self._store("states", rollout.env.env.states())
        action = rollout.action
        if self._expert is not None:
            env = rollout.env.env
            if self._expert_labels:
                action = np.asarray(self._expert.act(rollout.obs), np.float32)
            if env.contract.instructions:
                self._store(LABELS, env.task.actions_by_instruction(self._expert, rollout.obs))
        self._store("actions", action)

    def after_step(self, rollout: Rollout) -> None:
        self._store("rewards", rollout.reward.astype(np.float32))
        if self._next_obs:
            self._store_obs(NEXT_OBS, rollout.obs)
        self._step += 1
        self.finished = []
        if len(rollout.ended):
            success, _ = read_success(rollout.info, rollout.num_envs)
            self.finished = [
                self._cut(rollout, env_id, bool(success[env_id]))
                for env_id in map(int, rollout.ended)
            ]

    def _cut(self, rollout: Rollout, env_id: int, success: bool) -> Episode:
        """Copy what an env did since its episode began."""
        length = int(rollout.length[env_id])
        assert 0 < length <= self._max_steps, (length, self._max_steps)
        # where the ring buffer has the steps of this episode: up to two slices
        first = int(self._start[env_id]) % self._max_steps
        left = first + length - self._max_steps  # steps after the end of the ring
        # copies, so that later steps may overwrite the ring
        if left <= 0:
            columns = {
                k: b[first : first + length, env_id].copy() for k, b in self._buffers.items()
            }
        else:
            columns = {
                k: np.concatenate([b[first:, env_id], b[:left, env_id]])
                for k, b in self._buffers.items()
            }
        columns |= {key: columns[same] for key, same in self._same.items()}
        return Episode(
            obs=_below(OBS, columns),
            next_obs=_below(NEXT_OBS, columns),
            actions=columns["actions"],
            rewards=columns["rewards"],
            dones=np.arange(length) == length - 1,
            states=columns["states"],
            actions_by_instruction=columns.get(LABELS),
            index=int(rollout.episode[env_id]),
            seed=rollout.seeds[env_id],
            success=success,
            diverged=bool(rollout.info["diverged"][env_id]),
            language=rollout.instructions[env_id] if rollout.instructions else "",
            randomization=self._randomization[env_id],
        )

    def _store_obs(self, prefix: str, obs: Mapping[str, Array]) -> None:
        """Copy the observations of this step; an image that has two names, such as `image`, once."""
        for key, value in obs.items():
            same = key
            if value.ndim >= 4:  # (n, H, W, C)
                same = next(k for k, v in obs.items() if v is value)
            if same == key:
                self._store(prefix + key, value)
            else:
                self._same[prefix + key] = prefix + same

    def _store(self, key: str, value: Array) -> None:
        """Copy the values (n, ...) of this step into their ring buffer."""
        if key not in self._buffers:
            self._buffers[key] = np.empty((self._max_steps, *value.shape), value.dtype)
        # the oldest step goes: no episode is longer than the ring
        self._buffers[key][self._step % self._max_steps] = value


def _below(prefix: str, columns: Mapping[str, Array]) -> ArrayDict:
    return {k.removeprefix(prefix): v for k, v in columns.items() if k.startswith(prefix)}


def _json_values(values: Mapping[str, Array], env_id: int) -> JsonDict:
    """Return the values of one env from {name: (n, ...)}, as JSON values."""
    # Gymnasium's vector environments add a mask of the envs that have a value, as "_<name>"
    names = [name for name in values if not name.startswith("_")]
    return {name: np.asarray(values[name])[env_id].tolist() for name in names}
