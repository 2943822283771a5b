"""A `Task` on n rows of a batch, as a Gymnasium vector environment.

    envs = make_vec_env("pick_place", 256)
    obs, info = envs.reset(seed=0)
    obs, reward, terminated, truncated, info = envs.step(actions)  # actions (256, 4)

Rows whose simulation becomes unstable end as those of a single environment do, and leave the others alone:
see `sim.base_env`.

Row i is bit-identical to the single environment reset with seed + i and given row i's actions.

How a finished row goes on is declared by `autoreset_mode`; see `sim.autoreset`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.contract import EnvContract
from simscaleai.convert import plain
from simscaleai.errors import UserError
from simscaleai.memory import require_memory
from simscaleai.sim.actions import ActionCheck
from simscaleai.sim.autoreset import final_info, find_autoreset_mode
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.physics import BatchSim, Rows
from simscaleai.sim.randomization import Randomizer
from simscaleai.sim.scene import ASSETS, check_timing, frame_rate, load_model
from simscaleai.sim.spaces import (
    action_space,
    camera_observations,
    env_contract,
    observation_space,
)
from simscaleai.sim.task import Task
from simscaleai.sim.vector_attributes import VectorAttributes
from simscaleai.sim.vector_cameras import VectorCameras

_ROW_BYTES = 2000  # of state and derived fields, at the least


class TaskVectorEnv(VectorAttributes, VectorEnv):
    """`num_envs` environments of `task_class` on `num_threads` threads (0: all cores)."""

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
        require_memory(_ROW_BYTES * num_envs, f"num_envs={num_envs}")
        if render_mode not in (None, "rgb_array"):
            raise UserError(
                f"render_mode is {render_mode!r}; that of a vector environment may be None or 'rgb_array'."
            )
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.config = config
        self.autoreset_mode = find_autoreset_mode(autoreset_mode)
        self.substeps = check_timing(config.dt, config.control_dt, config.max_episode_steps)
        self.metadata = {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": ["rgb_array"],
            "render_fps": frame_rate(config.control_dt),
        }
        self.model = load_model(config.xml_path or ASSETS / task_class.xml, config.dt)
        self.sim = BatchSim(self.model, num_envs, num_threads)
        self.task = task_class(self.model, config.control_dt, config.ik)
        self._randomizer: Randomizer | None = None
        self._draws: dict[str, NDArray[np.float64]] = {}
        if config.domain_randomization:
            self._randomizer = Randomizer(self.sim, config.randomization_level)
        self.single_observation_space: spaces.Dict = observation_space(self.task, self.sim, config)
        self.single_action_space = action_space(self.task)
        self._check_actions = ActionCheck(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._cameras = VectorCameras(self.sim, config, num_threads)
        self._seeds = None
        self._own = {}
        self._episodes = np.zeros(num_envs, dtype=np.int64)
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._done = np.zeros(num_envs, dtype=bool)
        self._all_rows = np.arange(num_envs)
        self._true = np.ones(num_envs, dtype=bool)
        self._true.flags.writeable = False
        self._still = np.zeros((num_envs, 4))

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # one that shared the simulations would move the original's

    @property
    def steps(self) -> NDArray[np.int64]:
        """Steps of each environment's episode so far, (n,); what is written into it counts for truncation."""
        return self._steps

    @property
    def contract(self) -> EnvContract:
        """What a policy relies on here."""
        return env_contract(self.task.name, self.config, self.single_observation_space)

    def states(self) -> NDArray[np.float64]:
        """The physics states for replay, (n, nstate); see `Sim.states`."""
        return self.sim.states()

    def instruction(self, row: int = 0) -> str:
        """What the present episode of `row` is told to do; a function of its seed and number."""
        assert self._seeds is not None
        return self.task.instruct(self.sim, row, self._seeds[row], int(self._episodes[row]))

    @property
    def compute_reward(self) -> Callable[..., Any]:
        """`GoalConditioned.compute_reward`; AttributeError where the task is not goal-conditioned.

        Stable-Baselines3 knows goal-conditioned environments by this attribute.
        """
        compute: Callable[..., Any] = self.task.compute_reward  # type: ignore[attr-defined]
        return compute

    def get_state(self) -> dict[str, Any]:
        """Copies of all that the future of the rows depends on, as plain values and arrays."""
        return {
            "physics": self.sim.batch.state.copy(),
            "warnings": self.sim.batch.warning.copy(),
            "memory": {name: value.copy() for name, value in self.sim.memory.items()},
            "draws": {name: value.copy() for name, value in self._draws.items()},
            "seeds": None if self._seeds is None else list(self._seeds),
            "episodes": self._episodes.copy(),
            "steps": self._steps.copy(),
            "done": self._done.copy(),
        }

    def set_state(self, state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Go on from what `get_state` of an environment with the same settings gave.

        Returns:
          the observations {key: (n, ...)} of now.

        Raises:
          UserError: the state is of another number of rows or another scene.
        """
        shape, own = np.shape(state["physics"]), self.sim.batch.state.shape
        if shape != own:
            raise UserError(
                f"The saved environments have states of shape {shape}, and these {own}; go on with the"
                " same task, scene and num_envs."
            )
        self._draws = {name: np.array(value) for name, value in state["draws"].items()}
        if self._randomizer is not None and self._draws:
            self._randomizer.apply_to_model(self._all_rows, self._draws)
        self.sim.memory.update({k: np.array(v) for k, v in state["memory"].items()})
        self._seeds = None if state["seeds"] is None else list(state["seeds"])
        self._episodes, self._steps = np.array(state["episodes"]), np.array(state["steps"])
        self._done = np.array(state["done"])
        self.sim.batch.state[:] = state["physics"]
        self.sim.batch.warning[:] = state.get("warnings", 0)
        self.sim.forward(self._all_rows)
        return self._observe()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start new episodes.

        Args:
          seed: row i starts episode 0 of seed + i, or of seed[i]; None goes on to the next episode.
          options: {"reset_mask": (n,) bool} resets those rows alone.

        Returns:
          The observations {key: (n, ...)} of all rows, and info; `seed` and, where randomization is on,
          `randomization` are in it.
        """
        mask = (options or {}).get("reset_mask")
        mask = self._true if mask is None else np.asarray(mask, dtype=bool)
        if mask.shape != (self.num_envs,):
            raise UserError(f"reset_mask has shape {mask.shape}; it must be ({self.num_envs},).")
        if self._seeds is None and not mask.all():
            raise UserError("The first reset takes all rows; leave reset_mask out.")
        rows = np.flatnonzero(mask)
        self._seed_rows(seed, rows)
        self._begin(rows)
        info = self._info(self.task.measure(self.sim), self._still)
        return self._observe(rows), self._with_reset_info(info, mask)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[
        dict[str, NDArray[Any]],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """One control step of every row, for actions (n, 4) in [-1, 1]."""
        if self._seeds is None:
            raise UserError("step was called before reset; call reset first.")
        actions = self._check_actions(actions)
        # rows whose episode is over do not move: they begin the next one, or stand still
        same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
        over = self._done.copy() if not same_step and self._done.any() else None
        moving = None if over is None else np.flatnonzero(~over)
        begun = over if self.autoreset_mode == AutoresetMode.NEXT_STEP else None
        self.task.controller.apply(self.sim, actions, moving)
        self.sim.step(self.substeps, moving)
        self._steps += 1 if over is None else ~over
        if over is not None:
            actions[over] = 0.0
        before = {} if over is None else {k: self.sim.memory[k][over] for k in self.task.memory}
        self.task.update(self.sim)
        for name, values in before.items():
            self.sim.memory[name][over] = values  # who does not move learns nothing new
        if begun is not None:
            self._episodes[begun] += 1
            self._begin(np.flatnonzero(begun))
        measured = self.task.measure(self.sim)
        info = self._info(measured, actions)
        reward = self.task.reward(info["reward_terms"])
        terminated = measured["success"] | measured["diverged"]
        truncated = self._steps >= self.config.max_episode_steps
        if over is not None:
            reward[over] = 0.0
        if begun is not None:
            terminated[begun] = False
            self._with_reset_info(info, begun)
        done = terminated | truncated
        obs = self._observe(moving if begun is None else None)
        if same_step and done.any():
            final = final_info(obs, info, done)
            self._episodes[done] += 1
            self._begin(np.flatnonzero(done))
            obs = self._observe(np.flatnonzero(done))
            actions[done] = 0.0
            info = self._info(self.task.measure(self.sim), actions)
            info = self._with_reset_info(info, done) | final
        self._done = done
        return obs, reward, terminated, truncated, info

    def _seed_rows(self, seed: int | Sequence[int | None] | None, rows: Rows) -> None:
        n = self.num_envs
        given = self._one_each(seed)
        if self._seeds is None:  # at the first reset every row needs a seed
            configured = self.config.seed
            own = self._one_each(seeding.fresh_seed(n) if configured is None else configured)
            given = [own[i] if value is None else value for i, value in enumerate(given)]
            self._seeds = [0] * n
        for i in rows:
            value = given[i]
            if value is None:
                self._episodes[i] += 1
            else:
                self._seeds[i] = seeding.check_seed(value)
                self._episodes[i] = 0

    def _one_each(self, seed: Any) -> Sequence[int | None]:
        """A seed, or None, for every row."""
        n = self.num_envs
        seed = plain(seed)
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

    def _begin(self, rows: Rows) -> None:
        """Put `rows` at the start of their episodes."""
        assert self._seeds is not None
        if self._randomizer is not None:
            u = self._uniforms("randomization", rows, self._randomizer.num_uniforms)
            draws = self._randomizer.draw(u)
            for name, value in draws.items():
                known = self._draws.setdefault(name, np.zeros((self.num_envs, value.shape[1])))
                known[rows] = value
            self._randomizer.apply_to_model(rows, draws)
        self.sim.reset(rows)
        self.task.write_initial_state(
            self.sim, rows, self._uniforms("task", rows, self.task.num_uniforms)
        )
        if self._randomizer is not None:
            self._randomizer.apply_to_state(rows, draws)
        self.sim.forward(rows)
        if np.count_nonzero(self.sim.diverged()[rows]):
            raise UserError(
                f"An episode of {self.task.name!r} starts with NaN or a huge number in qpos or qvel;"
                " write finite values in the task's initial_state."
            )
        self.task.begin(self.sim, rows)
        self._steps[rows] = 0
        self._done[rows] = False

    def _uniforms(self, stream: str, rows: Rows, count: int) -> NDArray[np.float64]:
        assert self._seeds is not None
        u = np.empty((len(rows), count))
        for j, i in enumerate(rows):
            u[j] = seeding.generator(self._seeds[i], stream, int(self._episodes[i])).random(count)
        return u

    def _observe(self, changed: Rows | None = None) -> dict[str, NDArray[Any]]:
        """Observations of all rows, of which `changed` (all by default) are not as they last were."""
        obs = self.task.observe(self.sim)
        if self.config.cameras:
            config = self.config
            seen = self._cameras.render(config.observe_depth, config.observe_segmentation, changed)
            obs.update(camera_observations(seen))
        return obs

    def render_cameras(
        self, depth: bool = False, segmentation: bool = False
    ) -> dict[str, dict[str, NDArray[Any]]]:
        """What every row's configured cameras see: {camera: {"rgb": (n, H, W, 3) uint8, ...}}.

        Args:
          depth: also "depth", (n, H, W) float32 in m.
          segmentation: also "segmentation", (n, H, W) int32 geom ids, -1 for none.
        """
        return self._cameras.render(depth, segmentation)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One frame (H, W, 3) of each environment with render_mode "rgb_array", else None.

        As in a single environment it is that of the first configured camera, or of the scene's first.
        """
        return None if self.render_mode is None else tuple(self._cameras.frames())

    def close_extras(self, **kwargs: Any) -> None:
        """Release the renderer."""
        self._cameras.close()

    def _info(
        self, measured: Mapping[str, NDArray[Any]], actions: NDArray[np.float64]
    ) -> dict[str, Any]:
        info: dict[str, Any] = {"step": self._steps.copy(), **measured}
        info["is_success"] = info["success"]
        terms = self.task.terms(self.sim, measured, actions)
        info["reward_terms"] = terms
        # Gymnasium pairs each key with a mask of the rows that have it
        info.update({f"_{key}": self._true for key in list(info)})
        return info

    def _with_reset_info(self, info: dict[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
        info["seed"], info["_seed"] = np.array(self._seeds, dtype=np.int64), mask
        if self._randomizer is not None:
            info["randomization"] = {name: value.copy() for name, value in self._draws.items()}
            info["_randomization"] = mask
        return info
