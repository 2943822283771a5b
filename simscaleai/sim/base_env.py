"""Base class of robot environments: the Gymnasium loop around MuJoCo, with six hooks for the task.

A subclass needs only `self.model` and `self.data`. Our own tasks are written over arrays instead
(`sim.task.Task`), and `TaskEnv` connects them to this class.

Order at a reset: state reset, randomization, `_reset_task`, forward, `_get_obs`.
Order in a step: `_apply_action`, substeps, forward, `_get_obs`, `_get_reward`, `_is_terminated`.

If the physics becomes unstable (NaN or huge numbers, after which MuJoCo resets the state), the episode ends:
`terminated` and `info["diverged"]` are True, the reward is 0 and the episode is not a success.

Promise: episode k after `reset(seed=s)` is a pure function of (s, k) and the configuration. The first
reset without a seed uses `SimConfig.seed`, or draws one below 2**63 if that is None. A copy (`copy.copy`,
`copy.deepcopy`, `pickle`) is an independent simulation in the same state.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Self

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.array_types import Array, FloatArray, IntArray
from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.rendering import Images, Renderer, RenderState, Window, open_window
from simscaleai.sim.action_check import ActionCheck
from simscaleai.sim.copies import copyable_state, deep_copy, restore
from simscaleai.sim.env_types import InfoDict, ObsDict, Space
from simscaleai.sim.parameters import ANY_MODEL
from simscaleai.sim.physics import instabilities
from simscaleai.sim.randomization import Randomizer
from simscaleai.sim.scene import check_timing, frame_rate, load_model
from simscaleai.sim.single_sim import SingleSim


@dataclass
class CameraConfig(Converted):
    """Size and field of view of a camera's images.

    Attributes:
      name: name of the camera in the scene.
      width, height: pixels.
      fov: vertical field of view, degrees.
      render_depth, render_segmentation: whether figures of the camera show these; `render_camera` returns
        either on request, whatever they are.
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
      xml_path: scene file; empty for the scene of the task.
      dt: physics timestep, s.
      control_dt: time between two actions, s; a whole multiple of `dt`.
      max_episode_steps: number of control steps after which an episode is truncated.
      cameras: cameras whose images are observed: `image` is that of the first one; with several cameras, each
        image is also `images/<camera>`. An empty list observes no images.
      domain_randomization: whether physics and appearance vary from episode to episode.
      seed: seed of the first reset, unless `reset` is given one.
      randomization_level: "light", "default" or "heavy".
      robot: name of a robot, see `sim.robots.robot`; for environments that are made from a `Task`.
      controller: name of a controller, which defines the action: "end_effector" or "joint", see
        `sim.robots.controllers`.
      ik: inverse kinematics, from a displacement of the hand to joint targets: "dls" (damped least squares)
        or "jacobian_transpose".
      render_engine: "warp", "gl", or "auto" for one that works on this machine; see `rendering`.
      observe_depth: also observe `depth/<camera>` of every camera, (H, W) float32, m.
      observe_segmentation: also observe `segmentation/<camera>` of every camera, (H, W) int32 geom ids, -1
        for the background.
      camera_poses: {camera: [x, y, z, x, y, z]}, the position of a camera and the point at which it looks,
        m in the world frame. A fixed camera of the scene is moved; another name adds a camera.
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
    camera_poses: JsonDict = field(default_factory=dict)


class BaseRobotEnv(gymnasium.Env, abc.ABC):
    """See the module docstring."""

    # "seed_bits": seeds of up to 63 bits work; most environments of other packages take 31 bits. Callers of
    # vector environments whose envs run in other processes see only this metadata.
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
        # the data and a view of its counts of instabilities
        self._watched: tuple[mujoco.MjData, IntArray] | None = None
        self._randomizer: Randomizer | None = None
        self._draws: dict[str, FloatArray] = {}  # {parameter: (1, d)} of the present episode
        self.observation_space = self._build_observation_space()
        self.action_space = self._build_action_space()
        self._check_action = ActionCheck(self.action_space)

    # the loop

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[ObsDict, InfoDict]:
        """Start the next episode, or the first episode of `seed`.

        Raises:
          UserError: the seed is not in [0, 2**63), or the episode starts with numbers that are not finite.
        """
        if seed is None and self._seed is None:
            seed = self.config.seed if self.config.seed is not None else seeding.fresh_seed()
        if seed is None:
            self._episode += 1
        else:
            self._seed, self._episode = seeding.check_seed(seed), 0
        super().reset(seed=None if seed is None else self._seed)  # Gymnasium's own generator
        assert self._seed is not None
        self._step_count = 0
        mujoco.mj_resetData(self.model, self.data)
        # the model first: what follows computes from it
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

    def step(self, action: Array) -> tuple[ObsDict, float, bool, bool, InfoDict]:
        """Apply `action`, clipped to the space, for one control step.

        Raises:
          UserError: it is not a finite action of the space's shape.
        """
        if self._seed is None:
            raise UserError("step was called before reset; call reset first.")
        if self._check_action.space is not self.action_space:  # a subclass has set another one
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
            # hooks have seen the state after MuJoCo's reset, which may look like a success
            info.update({key: False for key in ("success", "is_success") if key in info})
        return obs, reward, terminated, truncated, info

    def _has_diverged(self) -> bool:
        """Return whether the physics has become unstable since the last reset."""
        # a subclass may replace `self.data`
        if self._watched is None or self._watched[0] is not self.data:
            self._watched = self.data, instabilities(self.data)  # the look-up is slow
        return bool(np.count_nonzero(self._watched[1]))

    def _forward(self) -> None:
        # mj_step leaves derived fields of the substep before; this updates those of position and velocity
        mujoco.mj_step1(self.model, self.data)

    # images

    def render_camera(
        self, camera_name: str | None = None, depth: bool = False, segmentation: bool = False
    ) -> Images:
        """Return images of a camera; by default of the first configured one, or the scene's first.

        Returns:
          {"rgb": (H, W, 3) uint8}; with `depth` also {"depth": (H, W) float32, m}, with `segmentation` also
          {"segmentation": (H, W) int32 geom ids, -1 for the background}.
        """
        if self._renderer is None:  # made on first use: most environments never draw
            config = self.config
            self._renderer = Renderer(self.model, config.cameras, engine=config.render_engine)
        if camera_name is None:
            camera_name = self._renderer.default_camera
        state = RenderState.of(self.model, self.data)
        images = self._renderer.render(state, [camera_name], depth=depth, segmentation=segmentation)
        return {kind: image[0] for kind, image in images[camera_name].items()}

    def render(self) -> NDArray[np.uint8] | None:
        """Return an image for "rgb_array"; for "human", update the window and return None."""
        if self.render_mode == "rgb_array":
            return self.render_camera()["rgb"]
        if self.render_mode == "human":
            if self._viewer is None:
                self._viewer = open_window(self.model, self.data)
            self._viewer.sync()
        return None

    def close(self) -> None:
        """Close the window and release the renderer; harmless when called again."""
        if self._renderer is not None:
            self._renderer.close()
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    # copies

    def __getstate__(self) -> dict[str, object]:
        return copyable_state(self, dropped=("_viewer", "_watched"))

    def __setstate__(self, state: dict[str, object]) -> None:
        restore(self, state)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return deep_copy(self, memo)

    def __copy__(self) -> Self:
        return self.__deepcopy__({})  # one that shared the data would move the original

    # hooks that a subclass must define

    @abc.abstractmethod
    def _build_observation_space(self) -> Space:
        """Return the space of `_get_obs`; `self.model` exists already."""

    @abc.abstractmethod
    def _build_action_space(self) -> Space:
        """Return the space of actions: a Box of any shape, bounds and dtype."""

    @abc.abstractmethod
    def _get_obs(self) -> ObsDict:
        """Return the observation of the present state, in new arrays."""

    @abc.abstractmethod
    def _get_reward(self) -> float:
        """Return the reward of the step that has just ended."""

    @abc.abstractmethod
    def _is_terminated(self) -> bool:
        """Return whether the episode is over, by success or failure."""

    @abc.abstractmethod
    def _reset_task(self, rng: np.random.Generator) -> None:
        """Place robot and objects, starting from the model's default state."""

    # hooks that a subclass may override

    def _apply_action(self, action: Array) -> None:
        """Write `self.data.ctrl`; by default the action is the control vector.

        Args:
          action: element of the action space, clipped to its bounds; float64, or the space's integers.
        """
        if action.shape != (self.model.nu,):
            raise UserError(
                f"The action has shape {action.shape} and the model {self.model.nu} controls;"
                " override _apply_action."
            )
        self.data.ctrl[:] = action

    def _get_info(self) -> InfoDict:
        """Return the info of `step` and `reset`."""
        return {"step": self._step_count}

    def _apply_domain_randomization(self, rng: np.random.Generator) -> None:
        """Change `self.model` for one episode; called if `SimConfig.domain_randomization`.

        By default, it varies brightness and position of all lights and the friction of all geoms and pairs
        around their values at the first reset. `reset` returns the draws in `info["randomization"]`.
        """
        if self._randomizer is None:
            sim = SingleSim(self.model, self.data)
            self._randomizer = Randomizer(sim, self.config.randomization_level, ANY_MODEL)
        self._draws = self._randomizer.draw(rng.random((1, self._randomizer.num_uniforms)))
        self._randomizer.apply_to_model(np.zeros(1, dtype=np.intp), self._draws)
        mujoco.mj_resetData(self.model, self.data)  # with the changed model

    def _scene_path(self) -> str:
        if not self.config.xml_path:
            raise UserError("SimConfig.xml_path is empty; give this environment a scene file.")
        return self.config.xml_path

    def _load_model(self) -> mujoco.MjModel:
        poses = self.config.camera_poses
        return load_model(self._scene_path(), self.config.dt, camera_poses=poses)

    def _begin_episode(self) -> None:
        """Prepare for a new episode; called once its initial state is complete."""

    def _end_step(self) -> None:
        """Update after physics; called once per step, before observation and reward."""

    def _reset_info(self) -> InfoDict:
        return self._get_info()
