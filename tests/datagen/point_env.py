"""A vector environment without physics, for what data generation does around one."""

from __future__ import annotations

import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from simscaleai import seeding
from simscaleai.contract import EnvContract
from simscaleai.datagen import generation_plan, worker


class PointExpert:
    def reset(self, mask, seeds, instructions=None):
        pass

    def act(self, obs):
        action = np.zeros((len(obs["position"]), 4), np.float32)
        action[:, :3] = np.clip((obs["target"] - obs["position"]) / 0.05, -1, 1)
        return action


class PointTask:
    instructions = ("go to the point", "find the point")

    def expert(self):
        return PointExpert()


class PointEnv(VectorEnv):
    """Each row starts at the origin; its target is a function of its seed alone.

    A share `unstable` of the episodes diverges.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}
    unstable = 0.0

    def __init__(self, num_envs, max_steps, randomization=None):
        self.num_envs = num_envs
        self.max_steps = max_steps
        self.randomization = randomization
        self.task = PointTask()
        self.model = mujoco.MjModel.from_xml_string("<mujoco/>")
        self.contract = EnvContract(
            "point",
            {"max_episode_steps": max_steps},
            {"position": (3,), "target": (3,)},
            {"position": "float32", "target": "float32"},
            4,
            0.05,
        )
        self.position = np.zeros((num_envs, 3))
        self.target = np.zeros((num_envs, 3))
        self.steps = np.zeros(num_envs, int)
        self.seeds = [0] * num_envs
        self.row_steps = 0

    def close(self):
        pass

    def instruction(self, row):
        return self.task.instructions[self.seeds[row] % 2]

    def states(self):
        return np.concatenate([self.steps[:, None] * 0.05, self.position, self.target], axis=1)

    def reset(self, *, seed, options):
        assert len(seed) == self.num_envs
        for i in np.flatnonzero(options["reset_mask"]):
            self.position[i] = 0
            self.target[i] = seeding.generator(seed[i], "task").uniform(-0.4, 0.4, 3)
            self.steps[i], self.seeds[i] = 0, seed[i]
        info = {"seed": np.array(seed)}
        if self.randomization:
            info["randomization"] = {"gain": np.arange(self.num_envs) * 0 + self.target[:, 0]}
        return self._obs(), info

    def step(self, action):
        assert action.dtype == np.float32 and np.abs(action).max() <= 1
        self.position += action[:, :3] * 0.05
        self.steps += 1
        self.row_steps += self.num_envs
        distance = np.linalg.norm(self.target - self.position, axis=1)
        success = distance < 0.02
        truncated = ~success & (self.steps >= self.max_steps)
        info = {"success": success, "diverged": self.diverges()}
        return self._obs(), -distance, success | info["diverged"], truncated, info

    def diverges(self):
        """Whether each row's physics is unstable by now; a function of its seed, as all is."""
        unstable = [seed % 1000 < 1000 * self.unstable for seed in self.seeds]
        return np.array(unstable) & (self.steps > 2)

    def _obs(self):
        return {
            "position": self.position.astype(np.float32),
            "target": self.target.astype(np.float32),
        }


def make_point_envs(monkeypatch):
    made = []

    def make_env(job, num_envs):
        made.append(PointEnv(num_envs, job.max_steps, job.randomization))
        return made[-1]

    monkeypatch.setattr(generation_plan, "make_env", make_env)
    monkeypatch.setattr(worker, "make_env", make_env)
    return made
