"""One robot environment: the Gymnasium loop around MuJoCo, with six hooks that make it a task.

A subclass that reads and writes `self.model` and `self.data` needs nothing else of this package. Our
own tasks are written over arrays instead (`sim.task.Task`) and reach this class through `TaskEnv`.

Per episode the order is: state reset -> randomization -> `_reset_task` -> forward -> `_get_obs`; per
step: `_apply_action` -> substeps -> forward -> `_get_obs`, `_get_reward`, `_is_terminated`.

A simulation that has become unstable (MuJoCo found NaN or huge numbers, and then resets it in mid-episode)
ends its episode: `terminated` and `info["diverged"]` are True, the reward is 0 and nothing is a success.

Promise: episode k after `reset(seed=s)` is a pure function of (s, k) and the configuration. The first
reset without a seed uses `SimConfig.seed`, or draws one below 2**63 if that is None. A copy (`copy.copy`,
`copy.deepcopy`, `pickle`) is a simulation of its own that goes on from where the original is.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Any, Self

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.rendering import Images, Renderer, RenderState, Window, open_window
from simscaleai.sim.actions import ActionCheck
from simscaleai.sim.copies import copyable_state, deep_copy, restore
from simscaleai.sim.parameters import ANY_MODEL
from simscaleai.sim.physics import SingleSim, instabilities
from simscaleai.sim.randomization import Randomizer
from simscaleai.sim.scene import check_timing, frame_rate, load_model


@dataclass
class CameraConfig(Converted):
    """One camera's picture; `fov` is the vertical field of view in degrees.

    `render_depth` and `render_segmentation` say what `viz-cameras` and the like show of it; asking
    `render_camera` for either always works.
    """

    name: str = "wrist_cam"
    width: int = 128
    height: int = 128
    fov: float = 60.0
    render_depth: bool = True
    render_segmentation: bool = False


@dataclass
class SimConfig(Converted):
    """Settings of an environment.

    Attributes:
      xml_path: scene file; empty for the task's own.
      dt: physics timestep, s.
      control_dt: time between two actions, s; a whole multiple of `dt`.
      max_episode_steps: control steps until an episode is truncated.
      cameras: the first one gives the observation `image`, and where there are several, each gives
        `images/<camera>`; none, no pictures.
      domain_randomization: whether every episode runs on slightly different physics and looks.
      seed: seeds the first reset; an argument of `reset` wins.
      randomization_level: "light", "default" or "heavy".
      robot: the name of a robot, see `sim.robots.robot`; for environments that are made from a `Task`.
      controller: what an action is: "end_effector" or "joint", see `sim.robots.controllers`.
      ik: how a displacement of the hand becomes joint targets: "dls" or "jacobian_transpose".
      render_engine: "warp", "gl", or "auto" for what works here; see `rendering`.
      observe_depth: also observe `depth/<camera>` of every camera, (H, W) float32 in m. (`render_depth`
        of a `CameraConfig` costs nothing and puts nothing in the observation.)
      observe_segmentation: also observe `segmentation/<camera>`, (H, W) int32 geom ids, -1 for none.
    """

    xml_path: str = ""
    dt: float = 0.002
    control_dt: float = 0.05
    max_episode_steps: int = 200
    cameras: list[CameraConfig] = field(default_factory=lambda: [CameraConfig()])
    domain_randomization: bool = False
    seed: int | None = None
    randomization_level: str = "default"
    ik: str = "dls"
    render_engine: str = "auto"
    observe_depth: bool = False
    observe_segmentation: bool = False
    robot: str = "panda"
    controller: str = "end_effector"


class BaseRobotEnv(gymnasium.Env, abc.ABC):
    """See the module docstring."""

    # seeds of 63 bits are taken, which others cannot tell of a vector environment in other processes
    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20, "seed_bits": 63}

    def __init__(self, config: SimConfig, render_mode: str | None = None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UserError(
                f"render_mode is {render_mode!r}; it may be None, 'human' or 'rgb_array'."
            )
        self.config = config
        self.render_mode = render_mode
        self.substeps = check_timing(config.dt, config.control_dt, config.max_episode_steps)
        self.metadata = {**self.metadata, "render_fps": frame_rate(config.control_dt)}
        self.model = self._load_model()
        self.data = mujoco.MjData(self.model)
        self._seed: int | None = None
        self._episode = 0
        self._step_count = 0
        self._renderer: Renderer | None = None
        self._viewer: Window | None = None
        self._watched: tuple[mujoco.MjData, NDArray[np.int32]] | None = None
        self._randomizer: Randomizer | None = None
        self._draws: dict[str, NDArray[np.float64]] = {}
        self.observation_space = self._build_observation_space()
        self.action_space = self._build_action_space()
        self._check_action = ActionCheck(self.action_space)

    # the loop

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start the next episode, or the first one of `seed`; UserError if that is not in [0, 2**63)."""
        if seed is None and self._seed is None:
            seed = self.config.seed if self.config.seed is not None else seeding.fresh_seed()
        if seed is None:
            self._episode += 1
        else:
            self._seed, self._episode = seeding.check_seed(seed), 0
        super().reset(seed=None if seed is None else self._seed)
        assert self._seed is not None
        self._step_count = 0
        mujoco.mj_resetData(self.model, self.data)
        if self.config.domain_randomization:
            rng = seeding.generator(self._seed, "randomization", self._episode)
            self._apply_domain_randomization(rng)
        self._reset_task(seeding.generator(self._seed, "task", self._episode))
        self._forward()
        if self._has_diverged():
            raise UserError(
                "The episode starts with NaN or a huge number in qpos or qvel; write finite values in"
                " _reset_task (or in the task's initial_state)."
            )
        self._begin_episode()
        info = {**self._reset_info(), "diverged": False}
        if self._randomizer is not None:
            info["randomization"] = {name: value[0].copy() for name, value in self._draws.items()}
        return self._get_obs(), info

    def step(
        self, action: NDArray[Any]
    ) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Apply `action`, clipped to the space, for one control step.

        Raises:
          UserError: it is not a finite action of the space's shape.
        """
        if self._seed is None:
            raise UserError("step was called before reset; call reset first.")
        if self._check_action.space is not self.action_space:  # a subclass may set another one
            self._check_action = ActionCheck(self.action_space)
        self._apply_action(self._check_action(action))
        mujoco.mj_step(self.model, self.data, self.substeps)
        self._forward()
        self._step_count += 1
        self._end_step()
        diverged = self._has_diverged()
        obs = self._get_obs()
        reward = 0.0 if diverged else self._get_reward()
        terminated = diverged or self._is_terminated()
        truncated = self._step_count >= self.config.max_episode_steps
        if self.render_mode == "human":
            self.render()
        info = {**self._get_info(), "diverged": diverged}
        if diverged:
            info.update({key: False for key in ("success", "is_success") if key in info})
        return obs, reward, terminated, truncated, info

    def _has_diverged(self) -> bool:
        """Whether the physics has become unstable since the last reset."""
        if self._watched is None or self._watched[0] is not self.data:
            self._watched = self.data, instabilities(self.data)  # looking it up each time is slow
        return bool(np.count_nonzero(self._watched[1]))

    def _forward(self) -> None:
        # positions and velocities, so that hooks see this state and not the one a substep ago
        mujoco.mj_step1(self.model, self.data)

    # images

    def render_camera(
        self, camera_name: str | None = None, depth: bool = False, segmentation: bool = False
    ) -> Images:
        """Draw an image; None is the first configured camera, or the scene's first.

        Returns:
          {"rgb": (H, W, 3) uint8}, with `depth` also {"depth": (H, W) float32 in m}, with
          `segmentation` also {"segmentation": (H, W) int32 geom ids, -1 for none}.
        """
        if self._renderer is None:
            config = self.config
            self._renderer = Renderer(self.model, config.cameras, engine=config.render_engine)
        if camera_name is None:
            camera_name = self._renderer.default_camera
        state = RenderState.of(self.model, self.data)
        images = self._renderer.render(state, [camera_name], depth=depth, segmentation=segmentation)
        return {kind: image[0] for kind, image in images[camera_name].items()}

    def render(self) -> NDArray[np.uint8] | None:
        """Return the image for `render_mode`: an array, or a window that is kept up to date."""
        if self.render_mode == "rgb_array":
            return self.render_camera()["rgb"]
        if self.render_mode == "human":
            if self._viewer is None:
                self._viewer = open_window(self.model, self.data)
            self._viewer.sync()
        return None

    def close(self) -> None:
        """Release the window and the renderer; harmless when called again."""
        if self._renderer is not None:
            self._renderer.close()
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    # copies

    def __getstate__(self) -> dict[str, Any]:
        return copyable_state(self, dropped=("_viewer", "_watched"))

    def __setstate__(self, state: dict[str, Any]) -> None:
        restore(self, state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied: Self = deep_copy(self, memo)
        return copied

    def __copy__(self) -> Self:
        return self.__deepcopy__({})  # one that shared the data would move the original

    # hooks that a subclass must give

    @abc.abstractmethod
    def _build_observation_space(self) -> spaces.Space[Any]:
        """The space of `_get_obs`; `self.model` is ready."""

    @abc.abstractmethod
    def _build_action_space(self) -> spaces.Space[Any]:
        """The space of actions, a Box of any shape, bounds and dtype."""

    @abc.abstractmethod
    def _get_obs(self) -> dict[str, NDArray[Any]]:
        """The observation of the present state; new arrays."""

    @abc.abstractmethod
    def _get_reward(self) -> float:
        """The reward of the step that just ended."""

    @abc.abstractmethod
    def _is_terminated(self) -> bool:
        """Whether the episode is over, by success or failure."""

    @abc.abstractmethod
    def _reset_task(self, rng: np.random.Generator) -> None:
        """Place robot and objects; the state is at the model's defaults."""

    # hooks that a subclass may give

    def _apply_action(self, action: NDArray[Any]) -> None:
        """Write `self.data.ctrl`; by default the action is the control vector.

        Args:
          action: in the action space, clipped to its bounds; float64, or the space's own integers.
        """
        if action.shape != (self.model.nu,):
            raise UserError(
                f"The action has shape {action.shape} and the model {self.model.nu} controls;"
                " override _apply_action."
            )
        self.data.ctrl[:] = action

    def _get_info(self) -> dict[str, Any]:
        """What `step` and `reset` say beside the observation."""
        return {"step": self._step_count}

    def _apply_domain_randomization(self, rng: np.random.Generator) -> None:
        """Change `self.model` for one episode; called if `SimConfig.domain_randomization`.

        By default brightness and position of all lights and the friction of all geoms and pairs are the
        model's, as they were at the first reset, changed by draws that `reset` returns in
        `info["randomization"]`.
        """
        if self._randomizer is None:
            sim = SingleSim(self.model, self.data)
            self._randomizer = Randomizer(sim, self.config.randomization_level, ANY_MODEL)
        self._draws = self._randomizer.draw(rng.random((1, self._randomizer.num_uniforms)))
        self._randomizer.apply_to_model(np.zeros(1, dtype=np.intp), self._draws)
        mujoco.mj_resetData(self.model, self.data)

    def _scene_path(self) -> str:
        if not self.config.xml_path:
            raise UserError("SimConfig.xml_path is empty; give this environment a scene file.")
        return self.config.xml_path

    def _load_model(self) -> mujoco.MjModel:
        return load_model(self._scene_path(), self.config.dt)

    def _begin_episode(self) -> None:
        """Called once the state of a new episode is complete."""

    def _end_step(self) -> None:
        """Called once per step after physics, before anything is read."""

    def _reset_info(self) -> dict[str, Any]:
        return self._get_info()
