"""A `Task` as a Gymnasium vector environment of n envs.

    envs = make_vec_env("pick_place", 256)
    obs, info = envs.reset(seed=0)
    obs, reward, terminated, truncated, info = envs.step(actions)  # actions (256, action_dim)

Promise: env i is bit-identical to the single environment reset with seed + i and given the actions of env i.
An env whose simulation becomes unstable ends as a single environment does, and leaves the others alone: see
`sim.base_env`. `autoreset_mode` says how a finished env continues; see `sim.autoreset`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.array_types import Array, BoolArray, EnvIds, FloatArray, IntArray
from simscaleai.contract import EnvContract
from simscaleai.convert import plain
from simscaleai.errors import UserError
from simscaleai.memory import require_memory
from simscaleai.rendering import Images, Renderer
from simscaleai.sim.action_check import ActionCheck
from simscaleai.sim.autoreset import STEP, StepResult, find_autoreset_mode, vector_info
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.batch_sim import BatchSim
from simscaleai.sim.core import SavedCore, TaskCore
from simscaleai.sim.env_types import GoalReward, InfoDict, ObsDict
from simscaleai.sim.robots.robot import find_robot
from simscaleai.sim.scene import ASSETS, check_timing, frame_rate, load_model
from simscaleai.sim.task import Task
from simscaleai.sim.task_setup import make_task
from simscaleai.sim.vector_attributes import VectorAttributes

_ENV_BYTES = 2000  # lower bound of the state and derived fields of one env


class SavedEnvs(SavedCore):
    """Result of `TaskVectorEnv.get_state`; `done` (n,): whose episode the last step ended."""

    done: BoolArray


class TaskVectorEnv(VectorAttributes, VectorEnv):
    """`num_envs` environments of `task_class` on `num_threads` threads (0: all cores)."""

    single_observation_space: spaces.Dict

    def __init__(
        self,
        task_class: type[Task],
        num_envs: int,
        config: SimConfig,
        *,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = "next_step",
        num_threads: int = 0,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"num_envs is {num_envs}; it must be at least 1.")
        require_memory(_ENV_BYTES * num_envs, f"num_envs={num_envs}")
        if render_mode not in (None, "rgb_array"):
            raise UserError(
                f"render_mode is {render_mode!r}; that of a vector environment may be None or 'rgb_array'."
            )
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.config = config
        self.autoreset_mode = find_autoreset_mode(autoreset_mode)
        self.substeps = check_timing(config.dt, config.control_dt, config.max_episode_steps)
        self.model = load_model(
            config.xml_path or ASSETS / task_class.xml,
            config.dt,
            find_robot(config.robot),
            config.camera_poses,
        )
        engine = config.render_engine
        renderer = Renderer(
            self.model, config.cameras, num_envs, engine=engine, threads=num_threads
        )
        self.core = TaskCore(
            make_task(task_class, self.model, config),
            BatchSim(self.model, num_envs, num_threads),
            config,
            renderer,
            self.substeps,
        )
        self.metadata = {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": ["rgb_array"],
            "render_fps": frame_rate(config.control_dt),
        }
        self.single_observation_space = self.core.observation_space
        self.single_action_space = self.core.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._check_actions = ActionCheck(self.single_action_space, num_envs)
        self._done = np.zeros(num_envs, dtype=bool)  # (n,) whose episode the last step ended
        self._own = {}

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # one that shared the simulations would move the original's

    @property
    def sim(self) -> BatchSim:
        """Simulations, as arrays with a leading axis n."""
        assert isinstance(self.core.sim, BatchSim)
        return self.core.sim

    @property
    def task(self) -> Task:
        """Task of the episodes."""
        return self.core.task

    @property
    def steps(self) -> IntArray:
        """Steps of each env's episode so far, (n,); writing to it changes when the episode is truncated."""
        return self.core.steps

    @property
    def contract(self) -> EnvContract:
        """Properties of the environment that a policy relies on."""
        return self.core.contract

    def states(self) -> FloatArray:
        """Return the physics states for replay, (n, nstate); see `Sim.states`."""
        return self.sim.states()

    def instruction(self, env_id: int = 0) -> str:
        """Return the instruction of the present episode of `env_id`; a function of its seed and number."""
        return self.core.instruction(env_id)

    @property
    def compute_reward(self) -> GoalReward:
        """`GoalConditioned.compute_reward`; AttributeError where the task is not goal-conditioned.

        Stable-Baselines3 knows goal-conditioned environments by this attribute.
        """
        compute: GoalReward = self.task.compute_reward  # type: ignore[attr-defined]
        return compute

    def get_state(self) -> SavedEnvs:
        """Return copies of everything that the future of the envs depends on."""
        return {**self.core.get_state(), "done": self._done.copy()}

    def set_state(self, state: SavedEnvs) -> ObsDict:
        """Resume from the result of `get_state` of an environment with the same settings.

        Returns:
          the observations {key: (n, ...)} of now.

        Raises:
          UserError: the state is of another number of envs or another scene.
        """
        self.core.set_state(state)
        self._done = np.array(state["done"])
        return self.core.observe()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, object] | None = None,
    ) -> tuple[ObsDict, InfoDict]:
        """Start new episodes.

        Args:
          seed: env i starts episode 0 of seed + i, or of seed[i]; None starts the next episode.
          options: {"reset_mask": (n,) bool} resets those envs alone.

        Returns:
          The observations {key: (n, ...)} of all envs, and info; `seed` and, where randomization is on,
          `randomization` are in it.
        """
        mask = (options or {}).get("reset_mask")
        # a copy: the mask is kept in `info`
        mask = np.ones(self.num_envs, bool) if mask is None else np.array(mask, dtype=bool)
        if mask.shape != (self.num_envs,):
            raise UserError(f"reset_mask has shape {mask.shape}; it must be ({self.num_envs},).")
        if self.core.seeds is None and not mask.all():
            raise UserError("The first reset takes all envs; leave reset_mask out.")
        env_ids = np.flatnonzero(mask)
        self._assign_seeds(seed, env_ids)
        self.core.begin(env_ids)
        # info and reward terms of the start, as after an action of zero
        self.core.measure(np.zeros((self.num_envs, *self.core.action_space.shape)))
        self._done[env_ids] = False
        return self.core.observe(env_ids), vector_info(self.core, mask)

    def step(self, actions: Array) -> StepResult:
        """Take one control step of every env, for actions (n, action_dim) within the action space.

        Returns:
          observations {key: (n, ...)}, rewards (n,), terminated (n,), truncated (n,), info.

        Raises:
          UserError: the actions are not finite numbers of that shape, or there was no reset.
        """
        if self.core.seeds is None:
            raise UserError("step was called before reset; call reset first.")
        actions = self._check_actions(actions)
        result = STEP[self.autoreset_mode](self.core, actions, self._done)
        _, _, terminated, truncated, _ = result
        self._done = terminated | truncated
        return result

    def _assign_seeds(self, seed: int | Sequence[int | None] | None, env_ids: EnvIds) -> None:
        """Give `env_ids` their seeds; an env without one runs the next episode of its last seed."""
        core, n = self.core, self.num_envs
        given = self._one_each(seed)
        if core.seeds is None:  # at the first reset every env needs a seed
            configured = self.config.seed
            own = self._one_each(seeding.fresh_seed(n) if configured is None else configured)
            given = [own[i] if value is None else value for i, value in enumerate(given)]
            core.seeds = [0] * n
        for i in env_ids:
            value = given[i]
            if value is None:
                core.episodes[i] += 1  # the next episode of the same seed
            else:
                core.seeds[i] = seeding.check_seed(value)
                core.episodes[i] = 0

    def _one_each(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        """Return a seed, or None, for every env."""
        n = self.num_envs
        seed = plain(seed)  # NumPy's and torch's integers too
        if seed is None:
            return [None] * n
        if isinstance(seed, list | tuple | range):
            if len(seed) != n:
                raise UserError(
                    f"reset got {len(seed)} seeds for {n} environments; give one for each."
                )
            return list(seed)
        first = seeding.check_seed(seed, n)
        super().reset(seed=first)  # Gymnasium's own generator
        return range(first, first + n)

    def render_cameras(self, depth: bool = False, segmentation: bool = False) -> dict[str, Images]:
        """Draw every env's configured cameras: {camera: {"rgb": (n, H, W, 3) uint8, ...}}.

        Args:
          depth: also "depth", (n, H, W) float32 in m.
          segmentation: also "segmentation", (n, H, W) int32 geom ids, -1 for none.
        """
        return self.core.render(depth, segmentation)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Return one frame (H, W, 3) of each environment with render_mode "rgb_array", else None.

        As in a single environment it is that of the first configured camera, or of the scene's first.
        """
        if self.render_mode is None:
            return None
        renderer = self.core.renderer
        camera = renderer.default_camera
        return tuple(renderer.render(self.sim.render_state(), [camera])[camera]["rgb"])

    def close_extras(self, **kwargs: object) -> None:
        """Release the renderer."""
        self.core.renderer.close()
