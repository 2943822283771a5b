"""Tasks: start, observation, reward and end of an episode, over arrays with a leading axis n.

One definition serves the single environment (n = 1) and env i of a vector environment, and the two agree
bit by bit. Therefore every function treats each env alone: elementwise arithmetic and products per env,
never a sum over n, and never a matrix product with n as a dimension.

A subclass defines the class attributes and the abstract methods. State beyond physics (`lifted`) is declared
in `task_state`, stored in `sim.task_state` and changed only by `post_step`, which runs once per control step
after physics. Randomness is passed in as uniform numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.array_types import EnvIds, FloatArray
from simscaleai.errors import UserError, unknown_name
from simscaleai.policy import Policy
from simscaleai.sim.arrays import Array, any_true, array_namespace, like
from simscaleai.sim.names import check_names
from simscaleai.sim.parameters import SCENE, Parameter, object_parameters
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import Controller


class RewardTerms(Protocol):
    """Reward of the caller's own, such as a `RewardFunction`."""

    def terms(
        self, obs: Mapping[str, Array], action: Array, info: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return {term: (n,)} of one step; the reward is their sum."""
        ...


Reward = RewardTerms | Mapping[str, float] | str | None
"""Argument of `Task.set_reward`."""


class Task(ABC):
    """See the module docstring.

    Attributes:
      name: the registered name.
      xml: file of the scene under `assets/`.
      instructions: sentences that say what to do, in several ways; each episode has one.
      requests: names of what an instruction may ask for, where a scene has several; see `ask`.
      held_out: other ways to say the same, which no dataset has, for evaluation; see `use_phrasings`.
      num_uniforms: how many uniform numbers place one episode's start.
      task_state: {name: dtype} of state beyond physics, (n,) each; zero at the start of an episode.
      reward_weights: {term: weight}; the reward is the weighted sum of `reward_terms`.
      mocap_bodies, free_bodies: names of bodies that the scene must have, which the task places: with
        mocap="true", and with a free joint.
      bodies, sensors: names of others that the scene must have.
      randomization: randomized parameters of its objects; by default color, friction and mass of every
        movable body, and size and position of `free_bodies`.
      stages: failure stages, from the first that an episode can miss to the last; see `stage`.
      categories: names of kinds of episodes, which evaluation also counts apart; see `category`.
    """

    name: ClassVar[str]
    xml: ClassVar[str]
    instructions: ClassVar[tuple[str, ...]]
    requests: ClassVar[tuple[str, ...]] = ()
    held_out: ClassVar[tuple[str, ...]] = ()
    num_uniforms: ClassVar[int]
    task_state: ClassVar[dict[str, type]] = {}
    reward_weights: dict[str, float]
    stages: ClassVar[tuple[str, ...]]
    categories: ClassVar[tuple[str, ...]] = ()
    mocap_bodies: ClassVar[tuple[str, ...]] = ()
    free_bodies: ClassVar[tuple[str, ...]] = ()
    bodies: ClassVar[tuple[str, ...]] = ()
    sensors: ClassVar[tuple[str, ...]] = ()
    randomization: ClassVar[tuple[Parameter, ...] | None] = None

    def __init__(self, model: mujoco.MjModel, controller: Controller) -> None:
        needs = {
            "mocap": self.mocap_bodies,
            "free": self.free_bodies,
            "body": self.bodies,
            "sensor": self.sensors,
        }
        # now, and not when the first episode reads a name
        remedy = "add them, or use the task's own scene"
        check_names(model, f"the task {self.name!r}", needs, remedy)
        self.model = model
        self.controller = controller
        self._reward: RewardTerms | None = None
        self._phrasings = self.instructions
        self._said: str | None = None  # by `say`

    @abstractmethod
    def initial_state(self, u: Array) -> dict[str, Array]:
        """Return initial states {"qpos": (k, nq), "mocap_pos": (k, nmocap, 3)} for u (k, num_uniforms).

        Everything that the task does not place stays where the scene has it: begin with `model.qpos0` and
        `mocap_pos`.

        Args:
          u: uniform numbers in [0, 1).
        """

    @abstractmethod
    def observe(self, sim: Sim) -> dict[str, Array]:
        """Return the observations {key: (n, d) float32}, as new arrays."""

    @abstractmethod
    def info(self, sim: Sim) -> dict[str, Array]:
        """Return distances (m) and flags {key: (n,)}; `success` is one of them and ends the episode."""

    @abstractmethod
    def reward_terms(self, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        """Return {term: (n,)} before weighting, from this step's `info` and action (n, action_dim).

        Every term except the success bonus is <= 0, so that a policy gains most by finishing soon.
        """

    @abstractmethod
    def expert(self) -> Policy:
        """Return a scripted policy that solves the task."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters that vary under domain randomization: of the scene, the objects and the robot."""
        declared = self.randomization
        objects = object_parameters(self.free_bodies) if declared is None else declared
        return (*SCENE, *objects, *self.controller.robot.parameters)

    def post_step(self, sim: Sim) -> None:  # noqa: B027 - most tasks have none
        """Update `sim.task_state` after a control step; the only place that changes it."""

    def stage(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        """Return for each failed episode the index in `stages` at which it ended, (n,).

        Args:
          summary: {info key: (n,)} at the end of the episodes; for each flag also `ever_<flag>`, whether it
            was true at any step, and for each number `min_<key>`.
        """
        return np.zeros(len(next(iter(summary.values()))), dtype=np.intp)

    def category(self, summary: Mapping[str, Array]) -> NDArray[np.intp]:
        """Return the index in `categories` of each finished episode, (n,); `summary` as for `stage`."""
        return np.zeros(len(next(iter(summary.values()))), dtype=np.intp)

    def instruct(self, sim: Sim, env_id: int, seed: int, episode: int) -> str:
        """Return the instruction of `env_id`, where `episode` of `seed` runs: one of several sentences."""
        if self._said is not None:
            return self._said
        choices = self._phrasings
        if len(choices) < 2:
            return choices[0] if choices else ""
        # a random stream of its own, so that phrasings do not change where the episode starts
        choice = seeding.generator(seed, "language", episode).integers(len(choices))
        return choices[int(choice)]

    def ask(self, request: str | None) -> None:
        """Let all episodes that begin from now on ask for `request`, one of `requests`; None as drawn.

        Raises:
          UserError: the task knows no such request, or none at all.
        """
        if request is not None:
            raise UserError(
                f"The task {self.name!r} has no requests: its instruction does not choose among objects;"
                " use a task that does, such as 'pick_place_color'."
            )

    def say(self, sentence: str | None) -> bool:
        """Let all episodes that begin from now on have this instruction; None for one of the task's own.

        Returns:
          Whether it is clear what the sentence asks for. If it is not, success of an episode means nothing.

        Raises:
          UserError: the task asks for the same thing in every episode, or the sentence has no words.
        """
        if len(self.instructions) < 2:
            raise UserError(
                f"The task {self.name!r} asks for the same thing in every episode, so it takes no"
                " instruction; use a task that does, such as 'pick_place_color'."
            )
        if sentence is not None and not sentence.strip():
            raise UserError("The instruction is empty; give a sentence.")
        self._said = sentence
        return True

    def use_phrasings(self, name: str) -> None:
        """Use the instructions of training data ("train", the default), or the "held_out" ones.

        Raises:
          UserError: another name, or a task that holds no phrasings out.
        """
        self._phrasings = self._sentences(name)

    def _sentences(self, name: str) -> tuple[str, ...]:
        """Return the sentences of "train" or "held_out", with placeholders; errors as of `use_phrasings`."""
        choices = self._phrasing_choices()
        if name not in choices:
            raise unknown_name("choice of phrasings", name, choices)
        if name == "held_out" and not self.held_out:
            raise UserError(
                f"The task {self.name!r} holds no phrasings out; evaluate it with those of training,"
                " 'train'."
            )
        return choices[name]

    def _phrasing_choices(self) -> dict[str, tuple[str, ...]]:
        """Return {choice of `use_phrasings`: its sentences, with placeholders}."""
        return {"train": self.instructions, "held_out": self.held_out}

    def phrasings(self, name: str = "train") -> dict[str, tuple[str, ...]]:
        """Return {what an instruction can ask for: the sentences that ask for it}, in the order of latents.

        It is empty for tasks whose instructions all mean the same. The names are those of `categories`, where
        the task counts its episodes by what they are asked for. Errors as of `use_phrasings`.

        Args:
          name: "train" or "held_out".
        """
        return {}

    def actions_by_instruction(self, expert: Policy, obs: Mapping[str, Array]) -> Array:
        """Return the action of `expert` for every instruction in the same state, (n, K, action_dim).

        K counts the entries of `phrasings`. These labels are counterfactual and privileged: only the
        simulation knows what the expert would have done if it had been asked for something else.
        """
        raise NotImplementedError(f"{type(self).__name__} has phrasings and labels no instructions")

    def reward(self, terms: Mapping[str, Array]) -> Array:
        """Return the weighted sum of `terms`, (n,); terms of a caller's reward are weighted already."""
        weights = self.reward_weights if self._reward is None else None
        total: Array = 0.0
        for name, value in terms.items():
            total = total + (value if weights is None else weights[name] * value)
        return total

    def set_reward(self, reward: Reward) -> None:
        """Replace the reward of the task.

        Args:
          reward: an object with `terms(obs, action, info) -> {name: (n,)}`, such as a `RewardFunction`: the
            reward is their sum; {term: weight} for this task's own terms, with weight 0 for terms that it
            leaves out; "sparse": 1 for success, else 0; "default" or None: the task's own.

        Raises:
          UserError: an unknown name or term, or something else.
        """
        named: dict[str, Mapping[str, float] | None] = {"default": None, "sparse": {"success": 1.0}}
        if isinstance(reward, str):
            if reward not in named:
                raise unknown_name("reward", reward, named)
            reward = named[reward]
        self._reward = None
        self.reward_weights = type(self).reward_weights
        if isinstance(reward, Mapping):
            for name in reward:
                if name not in self.reward_weights:
                    raise unknown_name(f"reward term of {self.name!r}", name, self.reward_weights)
            self.reward_weights = {k: float(reward.get(k, 0.0)) for k in self.reward_weights}
        elif reward is not None:
            if not callable(getattr(reward, "terms", None)):
                raise UserError(
                    f"The reward is a {type(reward).__name__}; give a RewardFunction, weights of the"
                    f" task's terms, or one of {', '.join(named)}."
                )
            self._reward = reward

    def measure(self, sim: Sim) -> dict[str, Array]:
        """Return `info` with `diverged` (n,): whether the physics is unstable, which is never a success."""
        info = self.info(sim)
        if info["success"].dtype != sim.xp.bool:  # a task may give numbers
            info["success"] = sim.xp.astype(info["success"], sim.xp.bool)
        info["diverged"] = sim.diverged()
        if any_true(info["diverged"]):
            # MuJoCo has reset the state of these envs, and it means nothing for the episode
            info["success"] = info["success"] & ~info["diverged"]
        return info

    def terms(self, sim: Sim, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        """Return the terms of this step's reward, {term: (n,)}; 0 for envs that diverged."""
        terms: dict[str, Array]
        if self._reward is None:
            terms = self.reward_terms(info, action)
        else:
            terms = self._reward.terms(self.observe(sim), action, info)
        if any_true(info["diverged"]):
            xp = array_namespace(info["diverged"])
            terms = {k: xp.where(info["diverged"], 0.0, value) for k, value in terms.items()}
        return terms

    def mocap_id(self, name: str) -> int:
        """Return the index of a mocap body in `mocap_pos`."""
        return int(self.model.body(name).mocapid[0])

    def mocap_pos(self, places: Mapping[int, Array]) -> Array:
        """Return `mocap_pos` (k, nmocap, 3), m: that of the scene, with {mocap id: (k, 3)} replaced."""
        is_mocap = self.model.body_mocapid >= 0  # in the order of their mocap ids
        first = next(iter(places.values()))
        xp, k = array_namespace(first), first.shape[0]
        scene = like(self.model.body_pos[is_mocap], first)  # (nmocap, 3)
        start = xp.tile(scene[None, :, :], (k, 1, 1))
        for index, place in places.items():
            start[:, index, :] = place
        return start

    def write_initial_state(self, sim: Sim, env_ids: EnvIds, u: FloatArray) -> None:
        """Write the initial state for `u` (k, num_uniforms) into `env_ids` of a reset simulation."""
        for name, value in self.initial_state(u).items():
            field = getattr(sim, name)
            shape = (len(env_ids), *field.shape[1:])
            if np.shape(value) != shape:  # NumPy would broadcast it
                raise UserError(
                    f"The task {self.name!r} gives initial {name} of shape {np.shape(value)}, and this scene"
                    f" has {shape}; begin with the scene's own (model.qpos0, Task.mocap_pos)."
                )
            field[env_ids] = value

    def begin(self, sim: Sim, env_ids: EnvIds) -> None:
        """Reset the task state of `env_ids`; call once their derived fields are current."""
        for name, dtype in self.task_state.items():
            sim.task_state.setdefault(name, np.zeros(sim.n, dtype=dtype))[env_ids] = 0
        self.controller.reset(sim, env_ids)
