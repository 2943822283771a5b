"""Call anything that predicts actions in one way: functions, and policies of this package and others.

actor = PolicyAdapter(policy, env, deterministic=True)
actor.reset(mask, seeds, instructions)
action = actor.act(obs)          # as env.step wants it
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from simscaleai.array_types import BoolArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.observations import as_array
from simscaleai.rollout.gym_types import Action, GymEnv, Obs, PredictFunction, Predictor


class PolicyAdapter:
    """See the module docstring.

    A `Policy` (an `act` with a `reset` of its own) acts for n environments at once and is reset where
    episodes begin; for a single environment it acts for n = 1. Everything else gets observations as they are.
    The second of a tuple is the policy's own state, as Stable-Baselines3 has it, and is given back to it.

    Args:
      predict: a function of an observation, or an object with a method `act` or `predict`.
      env: the environment; single or vector.
      deterministic: passed to a function that takes an argument of this name.

    Raises:
      UserError: `predict` is none of these.
    """

    def __init__(self, predict: Predictor, env: GymEnv, deterministic: bool = True) -> None:
        self._single = not isinstance(env, VectorEnv)
        self._ours = EnvContract.of(env) is not None
        self._space = getattr(env, "action_space", None)
        self._predict = _function(predict)
        # `policy.act` passed as a function is still a policy, which has to be reset
        owner = getattr(self._predict, "__self__", None)
        acts = getattr(self._predict, "__name__", "") in ("act", "select_action")
        self._reset = getattr(owner, "reset", None) if acts else None
        self._rest = getattr(owner, "rest", None) if acts else None
        self._takes_instructions = _takes(self._reset, 3)
        self._is_policy = self._takes_instructions or _takes(self._reset, 2)
        self._add_axis = self._single and self._is_policy
        taken = _parameters(self._predict)
        self._options = {"deterministic": deterministic} if "deterministic" in taken else {}
        self._remembers = {"state", "episode_start"} <= set(taken)
        self._state: object = None
        self._started: BoolArray = np.ones(1, dtype=bool)

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Tell the policy that the envs in `mask` (n,) have begun episodes; as `Policy.reset`."""
        self._started = mask.copy()
        if self._reset is None:
            return
        if self._takes_instructions:
            self._reset(mask, seeds, instructions)
        elif self._is_policy:
            self._reset(mask, seeds)
        elif self._single and _takes(self._reset, 0):
            self._reset()

    def rest(self, mask: BoolArray) -> None:
        """Tell a policy that wants to know that the envs in `mask` (n,) have no episode, until a reset."""
        if self._rest is not None:
            self._rest(mask)

    def act(self, obs: Obs) -> Action:
        """Return the action for an observation, or those of all envs.

        Raises:
          UserError: it has another shape than the environment takes, or is not finite.
        """
        options: dict[str, object] = dict(self._options)
        if self._remembers:
            options |= {"state": self._state, "episode_start": self._started}
            self._started = np.zeros_like(self._started)
        action = self._predict(_with_axis(obs) if self._add_axis else obs, **options)
        # (action, state) as of Stable-Baselines3, unless the environment takes tuples
        if isinstance(action, tuple) and not isinstance(self._space, spaces.Tuple):
            action, self._state = action[0], (action[1] if len(action) > 1 else None)
        return self._checked(as_array(action)[0] if self._add_axis else action)

    def _checked(self, action: Action) -> Action:
        space = self._space
        if isinstance(space, spaces.Discrete):  # 1, [1] and array(1) are the same action
            number = as_array(action).reshape(-1)[0]
            if not space.contains(number):
                raise UserError(
                    f"The policy gave the action {number}, and the environment takes whole numbers from"
                    f" {space.start} to {space.start + space.n - 1}."
                )
            return number
        if not isinstance(space, spaces.Box):
            return action  # the environment checks those itself
        action = as_array(action)
        # axes of length 1 too many or too few, such as (1, d) for (d,), are forgiven
        if [k for k in action.shape if k != 1] == [k for k in space.shape if k != 1]:
            action = action.reshape(space.shape)
        if action.shape != space.shape:
            raise UserError(
                f"The policy gave an action of shape {action.shape}, and the environment takes"
                f" {space.shape}."
            )
        if action.dtype.kind not in "biuf" or not np.isfinite(action).all():
            raise UserError(f"The policy gave an action that is not finite: {action}.")
        if self._is_policy and self._ours:  # what is recorded is what is executed
            return action.astype(np.float32, copy=False)
        # others may check that their space contains it; ours take every bit
        return action if self._ours else action.astype(space.dtype, copy=False)


def _function(predict: Predictor) -> PredictFunction:
    """Return the function that predicts: the method `act`, the object itself, or the method `predict`."""
    is_function = inspect.isroutine(predict)
    if isinstance(predict, type):
        raise UserError(f"predict_fn is the class {predict.__name__}; give a policy made from it.")
    method = getattr(predict, "predict", None)
    # agents of reinforcement learning, ours and those of Stable-Baselines3, whose `act` would explore
    if not is_function and callable(method) and "deterministic" in _parameters(method):
        return method
    if not is_function and callable(getattr(predict, "act", None)):
        return predict.act
    if hasattr(predict, "forward") and callable(method):
        from simscaleai.models.policy import ModelPolicy

        return ModelPolicy(predict).act  # a bare model
    if callable(predict):
        return predict
    if callable(getattr(predict, "predict", None)):
        return predict.predict
    raise UserError(
        f"predict_fn is {predict!r}; give a function of an observation, or a policy with a method `act` or"
        " `predict`."
    )


def _parameters(function: PredictFunction) -> Sequence[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # of a function written in C
        return ()


def _takes(function: PredictFunction | None, count: int) -> bool:
    """Return whether a function can be called with `count` arguments."""
    if function is None:
        return False
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True


def _with_axis(obs: Obs) -> Obs:
    """Return an observation with a leading axis of 1."""
    if isinstance(obs, Mapping):
        return {key: _with_axis(value) for key, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(map(_with_axis, obs))
    return as_array(obs)[None]
