"""Core of all task environments: physics, task, randomizer, renderer and episode counters of n envs.

`TaskEnv` (n = 1) and `TaskVectorEnv` expose a `TaskCore` as Gymnasium environments. Starting an episode,
stepping and observing are written here once, so that the two agree bit by bit.

    core.seeds, core.episodes[:] = [0, 1], 0
    core.begin(env_ids)              # randomize -> reset -> place -> forward -> start
    core.step(actions)               # act -> physics -> post_step
    core.measure(actions)            # info and reward terms of the state that the step led to
    core.observe(), core.reward(), core.terminated(), core.truncated(), core.info()

Promise: episode k of seed s is a pure function of (s, k) and the configuration, whatever ran before it.
"""

from __future__ import annotations

import numpy as np

from simscaleai import seeding
from simscaleai.array_types import ArrayDict, BoolArray, EnvIds, FloatArray, IntArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.rendering import Images, Renderer
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.env_types import InfoDict, ObsDict
from simscaleai.sim.physics import SavedSim, Sim
from simscaleai.sim.randomization import Randomizer
from simscaleai.sim.spaces import action_space, camera_observations, env_contract, observation_space
from simscaleai.sim.task import Task
from simscaleai.sim.task_setup import task_randomizer


class SavedCore(SavedSim):
    """Result of `TaskCore.get_state`; see the attributes of `TaskCore`."""

    draws: dict[str, FloatArray]
    seeds: list[int] | None
    episodes: IntArray
    steps: IntArray


class TaskCore:
    """Runs episodes of `task` in the n simulations of `sim`; see the module docstring.

    Args:
      task: made for the model of `sim`.
      renderer: draws the cameras of `config`, for n simulations.
      substeps: number of physics steps in a control step.

    Attributes:
      randomizer: None where randomization is off.
      seeds: the seed of each env; None before the first reset.
      episodes: (n,) the number of each env's episode since its seed was given.
      steps: (n,) steps of each env's episode so far.
      draws: {parameter: (n, d)}, what randomization drew for the present episodes.
      measured: {key: (n,)}, `Task.measure` at the last call of `measure`.
      terms: {term: (n,)}, the reward terms of the same moment.
    """

    def __init__(
        self, task: Task, sim: Sim, config: SimConfig, renderer: Renderer, substeps: int
    ) -> None:
        self.task, self.sim, self.config, self.renderer = task, sim, config, renderer
        self.substeps = substeps
        self.randomizer: Randomizer | None = None
        if config.domain_randomization:
            self.randomizer = task_randomizer(task, sim, config.randomization_level)
        # Spaces are those of one env: a vector environment batches them itself.
        self.observation_space = observation_space(task, sim, config)
        self.action_space = action_space(task)
        self.seeds: list[int] | None = None
        self.episodes = np.zeros(sim.n, dtype=np.int64)
        self.steps = np.zeros(sim.n, dtype=np.int64)
        self.draws: dict[str, FloatArray] = {}
        self.measured: ArrayDict = {}
        self.terms: dict[str, FloatArray] = {}

    @property
    def contract(self) -> EnvContract:
        """Properties of the environment that a policy relies on."""
        return env_contract(self.task, self.config, self.observation_space)

    def instruction(self, env_id: int) -> str:
        """Return the instruction of the present episode: a function of its seed and number."""
        assert self.seeds is not None
        episode = int(self.episodes[env_id])
        return self.task.instruct(self.sim, env_id, self.seeds[env_id], episode)

    # the start of an episode

    def begin(self, env_ids: EnvIds) -> None:
        """Start in `env_ids` the episodes that `seeds` and `episodes` name.

        Raises:
          UserError: the task's initial state is not finite.
        """
        # The model before the state: a reset computes from the model of this episode.
        self.set_models(env_ids)
        self.sim.reset(env_ids)
        self.place(env_ids, self._uniforms("task", env_ids, self.task.num_uniforms))
        self.sim.forward(env_ids)
        if np.count_nonzero(self.sim.diverged()[env_ids]):
            raise UserError(
                f"An episode of {self.task.name!r} starts with NaN or a huge number in qpos or qvel;"
                " write finite values in the task's initial_state."
            )
        self.start(env_ids)

    def set_models(self, env_ids: EnvIds) -> None:
        """Give `env_ids` the models of their episodes, before they are reset."""
        if self.randomizer is not None:
            count = self.randomizer.num_uniforms
            self.randomize(env_ids, self._uniforms("randomization", env_ids, count))

    def begin_next(self, env_ids: EnvIds) -> None:
        """Start the next episode of each of `env_ids`."""
        self.episodes[env_ids] += 1
        self.begin(env_ids)

    def randomize(self, env_ids: EnvIds, u: FloatArray) -> None:
        """Change the models of `env_ids` by draws from `u` (k, num_uniforms); reset the envs afterwards."""
        assert self.randomizer is not None
        draws = self.randomizer.draw(u)
        for name, value in draws.items():
            # (n, d); draws of the other envs stay
            known = self.draws.setdefault(name, np.zeros((self.sim.n, value.shape[1])))
            known[env_ids] = value
        self.randomizer.apply_to_model(env_ids, draws)

    def place(self, env_ids: EnvIds, u: FloatArray) -> None:
        """Write the initial state of `env_ids` for `u` (k, num_uniforms), changed by their draws."""
        self.task.write_initial_state(self.sim, env_ids, u)
        if self.randomizer is not None:
            # declared offsets of positions, such as `arm_posture`
            draws = {name: value[env_ids] for name, value in self.draws.items()}
            self.randomizer.apply_to_state(env_ids, draws)

    def start(self, env_ids: EnvIds) -> None:
        """Reset counters and task state of `env_ids`; their derived fields must be current."""
        self.task.begin(self.sim, env_ids)
        self.steps[env_ids] = 0

    def _uniforms(self, stream: str, env_ids: EnvIds, count: int) -> FloatArray:
        """Return uniform numbers (k, count), a function of each env's seed and episode."""
        assert self.seeds is not None
        u = np.empty((len(env_ids), count))
        # one generator per env: the numbers must not depend on which other envs are reset with it
        for j, i in enumerate(env_ids):
            u[j] = seeding.generator(self.seeds[i], stream, int(self.episodes[i])).random(count)
        return u

    # a step

    def step(self, actions: FloatArray, env_ids: EnvIds | None = None) -> None:
        """Take one control step of `env_ids` (all by default); the others keep their state.

        Args:
          actions: (n, action_dim), within the bounds of the action space.
        """
        self.act(actions, env_ids)
        self.sim.step(self.substeps, env_ids)
        self.post_step(env_ids)

    def act(self, actions: FloatArray, env_ids: EnvIds | None = None) -> None:
        """Write the controls of `env_ids` for `actions` (n, action_dim)."""
        self.task.controller.apply(self.sim, actions, env_ids)

    def post_step(self, env_ids: EnvIds | None = None) -> None:
        """Count the step, and update the task state of `env_ids` after physics."""
        if env_ids is None:
            self.steps += 1
            self.task.post_step(self.sim)
            return
        self.steps[env_ids] += 1
        # Tasks update all envs at once; those that were not stepped get their task state back.
        still = np.ones(self.sim.n, dtype=bool)
        still[env_ids] = False
        before = {name: self.sim.task_state[name][still] for name in self.task.task_state}
        self.task.post_step(self.sim)
        for name, values in before.items():
            self.sim.task_state[name][still] = values

    # what a step led to

    def measure(self, actions: FloatArray) -> None:
        """Set `measured` and `terms` for the present state and the `actions` (n, action_dim) before it."""
        self.measured = self.task.measure(self.sim)
        self.terms = self.task.terms(self.sim, self.measured, actions)

    def reward(self) -> FloatArray:
        """Return the rewards (n,) of the last `measure`."""
        reward: FloatArray = self.task.reward(self.terms)
        return reward

    def terminated(self) -> BoolArray:
        """Return whether each episode is over, (n,): by success, or because its physics became unstable."""
        terminated: BoolArray = self.measured["success"] | self.measured["diverged"]
        return terminated

    def truncated(self) -> BoolArray:
        """Return whether each episode has reached `SimConfig.max_episode_steps`, (n,)."""
        return self.steps >= self.config.max_episode_steps

    def info(self) -> InfoDict:
        """Return steps, distances and flags, {key: (n,)}, and `reward_terms`, {term: (n,)}."""
        return {
            "step": self.steps.copy(),
            **self.measured,
            "is_success": self.measured["success"],  # the name that Stable-Baselines3 reads
            "reward_terms": self.terms,
        }

    def observe(self, changed: EnvIds | None = None) -> ObsDict:
        """Return the observations {key: (n, ...)}.

        Args:
          changed: envs whose state has changed since the last call; only their images are drawn. All by
            default.
        """
        obs = self.task.observe(self.sim)
        if self.config.cameras:
            config = self.config
            images = self.render(config.observe_depth, config.observe_segmentation, changed)
            obs.update(camera_observations(images))
        return obs

    def render(
        self, depth: bool, segmentation: bool, changed: EnvIds | None = None
    ) -> dict[str, Images]:
        """Draw the configured cameras, {camera: `Images` with a leading axis n}; see `Renderer.render`."""
        return self.renderer.render(
            self.sim.render_state(), depth=depth, segmentation=segmentation, env_ids=changed
        )

    # saved states

    def get_state(self) -> SavedCore:
        """Return copies of everything that the future of the episodes depends on."""
        return {
            **self.sim.save(),
            "draws": {name: value.copy() for name, value in self.draws.items()},
            "seeds": None if self.seeds is None else list(self.seeds),
            "episodes": self.episodes.copy(),
            "steps": self.steps.copy(),
        }

    def set_state(self, state: SavedCore) -> None:
        """Resume from the result of `get_state` of a core with the same settings.

        Raises:
          UserError: the state is of another number of envs or another scene.
        """
        self.sim.check_compatible(state)  # before anything is changed
        self.draws = {name: np.array(value) for name, value in state["draws"].items()}
        if self.randomizer is not None and self.draws:
            # the models are a function of the draws, and so are not saved
            self.randomizer.apply_to_model(np.arange(self.sim.n), self.draws)
        self.seeds = None if state["seeds"] is None else list(state["seeds"])
        self.episodes, self.steps = np.array(state["episodes"]), np.array(state["steps"])
        self.sim.restore(state)
