"""A user's `BaseRobotEnv` as policies, datasets and commands take it, and n of them side by side.

    envs = SerialVectorEnv("pendulum", make, num_envs=8)   # `make()` returns a BaseRobotEnv
    obs, info = envs.reset(seed=0)                          # {key: (8, ...)}
    envs.step(np.zeros((8, 1)))                             # the middle of each action's bounds

Observations are dicts of arrays: an array alone has the key "observation". Actions (d,) lie in [-1, 1], the
bounds of the environment's own Box, so that one policy format fits every environment.

The hooks of a `BaseRobotEnv` are Python for one simulation, so n of them run one after the other. That is
slower than a `Task`, whose n simulations are one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from simscaleai.array_types import Array, FloatArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.policy import Policy
from simscaleai.rendering import Images, Renderer
from simscaleai.rendering.render_state import POSE_FIELDS, VISUAL_FIELDS, RenderState
from simscaleai.sim.base_env import BaseRobotEnv, SimConfig
from simscaleai.sim.env_types import InfoDict, ObsDict
from simscaleai.sim.single_sim import SingleSim
from simscaleai.sim.spaces import bare_contract

OBSERVATION = "observation"
"""Key of an observation that is an array and no dict."""


class PolicyEnv(gymnasium.Env):
    """One environment; see the module docstring.

    Args:
      name: its registered name.
      env: the environment.

    Raises:
      UserError: its observations or actions are no arrays in a Box.
    """

    task = None  # nothing says in which stage an episode fails, or what else it could be asked for
    observation_space: spaces.Dict
    action_space: spaces.Box

    def __init__(self, name: str, env: BaseRobotEnv) -> None:
        self.env, self.config, self.model = env, env.config, env.model
        self.metadata, self.render_mode = env.metadata, env.render_mode
        self.observation_space = _observations(name, env.observation_space)
        space = env.action_space
        if not isinstance(space, spaces.Box) or not space.is_bounded():
            raise UserError(
                f"The environment {name!r} takes actions of {space}, and policies of this package give"
                " numbers in bounds; make _build_action_space return a Box with finite bounds."
            )
        # float64: the bounds of a narrow Box of float32 shall come back exactly
        self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32)
        dim = self.action_space.shape[0]
        self.contract = bare_contract(name, self.config, self.observation_space, dim)
        # a user's own scripted policy, if the class has one
        expert: Callable[[], Policy] | None = getattr(env, "expert", None)
        if callable(expert):
            self.expert = expert

    @property
    def data(self) -> mujoco.MjData:
        """State of the simulation."""
        return self.env.data

    @property
    def sim(self) -> SingleSim:
        """Simulation, as arrays with a leading axis of 1."""
        return SingleSim(self.env.model, self.env.data)  # anew, since a hook may replace the data

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[ObsDict, InfoDict]:
        """Start an episode; as `BaseRobotEnv.reset`."""
        super().reset(seed=seed)  # Gymnasium's own generator
        obs, info = self.env.reset(seed=seed, options=options)
        return self._dict(obs), info

    def step(self, action: Array) -> tuple[ObsDict, float, bool, bool, InfoDict]:
        """Take one step, for an action (d,) in [-1, 1]; as `BaseRobotEnv.step`."""
        share = (np.asarray(action, np.float64).reshape(self._low.shape) + 1.0) / 2.0
        own = (1.0 - share) * self._low + share * self._high  # exact at both ends
        obs, reward, terminated, truncated, info = self.env.step(
            own.astype(self.env.action_space.dtype)
        )
        return self._dict(obs), reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """Return an image, or show one; as `BaseRobotEnv.render`."""
        return self.env.render()

    def close(self) -> None:
        """Release what the environment holds."""
        self.env.close()

    def _dict(self, obs: object) -> ObsDict:
        given = obs if isinstance(obs, dict) else {OBSERVATION: obs}
        return {
            key: np.asarray(given[key], box.dtype) for key, box in self.observation_space.items()
        }


class SerialVectorEnv(SyncVectorEnv):
    """n environments, stepped one after the other; see the module docstring.

    Args:
      name: their registered name.
      make: returns a new one.
      num_envs: how many.
      autoreset_mode: how a finished one continues.
    """

    task = None
    single_observation_space: spaces.Dict

    def __init__(
        self,
        name: str,
        make: Callable[[], BaseRobotEnv],
        num_envs: int,
        autoreset_mode: AutoresetMode,
    ) -> None:
        super().__init__(
            [lambda: PolicyEnv(name, make())] * num_envs, autoreset_mode=autoreset_mode
        )
        first = self._first
        self.config: SimConfig = first.config
        self.model: mujoco.MjModel = first.model
        self.contract: EnvContract = first.contract
        if hasattr(first, "expert"):
            self.expert = first.expert
        self._renderer: Renderer | None = None

    @property
    def _first(self) -> PolicyEnv:
        return self._policy_envs[0]

    @property
    def _policy_envs(self) -> list[PolicyEnv]:
        return cast(list[PolicyEnv], self.envs)

    @property
    def sim(self) -> SerialSims:
        """The simulations, to be drawn."""
        return SerialSims([env.sim for env in self._policy_envs])

    def states(self) -> FloatArray:
        """Return the physics states for replay, (n, nstate); see `Sim.states`."""
        return self.sim.states()

    def render_cameras(self, depth: bool = False, segmentation: bool = False) -> dict[str, Images]:
        """Draw every env's configured cameras; as `TaskVectorEnv.render_cameras`."""
        if self._renderer is None:
            engine = self.config.render_engine
            self._renderer = Renderer(self.model, self.config.cameras, self.num_envs, engine=engine)
        return self._renderer.render(
            self.sim.render_state(), depth=depth, segmentation=segmentation
        )

    def close_extras(self, **kwargs: object) -> None:
        """Release the environments and the renderer."""
        super().close_extras(**kwargs)
        if self._renderer is not None:
            self._renderer.close()


class SerialSims:
    """n separate simulations of one scene."""

    def __init__(self, sims: list[SingleSim]) -> None:
        self._sims, self.n = sims, len(sims)

    def states(self) -> FloatArray:
        """Return the physics states for replay, (n, nstate)."""
        return np.concatenate([sim.states() for sim in self._sims])

    def load_states(self, states: FloatArray) -> None:
        """Set every simulation to its recorded state (n, nstate)."""
        for sim, state in zip(self._sims, states, strict=True):
            sim.load_states(state[None])

    def render_state(self) -> RenderState:
        """Return poses and appearance of every simulation."""
        parts = [sim.render_state() for sim in self._sims]
        if len(parts) == 1:
            return parts[0]
        return RenderState(
            {key: np.concatenate([part.poses[key] for part in parts]) for key in POSE_FIELDS},
            {key: np.concatenate([part.visuals[key] for part in parts]) for key in VISUAL_FIELDS},
        )


def _observations(name: str, space: gymnasium.Space) -> spaces.Dict:
    parts = dict(space.items()) if isinstance(space, spaces.Dict) else {OBSERVATION: space}
    wrong = [key for key, part in parts.items() if not isinstance(part, spaces.Box)]
    if wrong:
        raise UserError(
            f"The environment {name!r} observes {', '.join(map(repr, wrong))} as {parts[wrong[0]]}, and"
            " policies of this package read arrays; observe a Box, or a Dict of Boxes."
        )
    return spaces.Dict(parts)
