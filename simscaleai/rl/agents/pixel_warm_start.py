"""Start PPO from images with the weights of a cloned policy, so that it acts as the clone at first.

The clone is a model `bc` with the same cameras, vectors and sizes as the agent's actor. Its observations are
normalized by the statistics of its dataset, those of the agent by running ones: the layers that read the
vectors are changed so that both give the same actions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simscaleai.array_types import Array, BoolArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.models.bc import BehaviorCloning
from simscaleai.models.fitting import check_fit
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.pixel_ppo import PixelPPOAgent
from simscaleai.rollout.gym_types import GymEnv
from simscaleai.rollout.loop import run_episodes


def continue_clone(
    agent: PixelPPOAgent,
    clone: ModelPolicy,
    env: GymEnv,
    seeds: Iterable[int],
    steps: int,
    source: str,
) -> str:
    """Give the actor of a new agent the weights of a clone; return a clause about what was done.

    Args:
      env: where the clone acts for `steps` steps of each env; the agent's running statistics start with these
        observations.
      source: what errors call the clone.

    Raises:
      UserError: the clone is no such model, or its weights do not fit the actor.
    """
    _check(agent, clone, env, source)
    visited = _Visited(clone, agent)
    for _ in run_episodes(env, visited, seeds):
        if len(visited.states) >= steps:
            break
    states = torch.cat(visited.states)  # (steps * n, state_dim)
    agent.obs_rms.update(states)
    take_weights(agent, clone)
    return f"the actor has its weights, and statistics of {len(states)} steps"


def take_weights(agent: PixelPPOAgent, clone: ModelPolicy) -> None:
    """Copy the weights of a clone into the actor, for the agent's present statistics of observations."""
    actor = agent.actor
    model = cast(BehaviorCloning, clone.model)  # `_check` has seen it
    actor.load_state_dict(model.state_dict())
    _reorder_cameras(actor, model)
    columns = agent.layout.columns(agent.layout.actor_keys)
    if not columns:
        return
    assert clone.normalizer is not None
    mean, std = (getattr(clone.normalizer, f"state_{k}").cpu() for k in ("mean", "std"))  # (d,)
    own = agent.normalizer()
    own_mean, own_std = (getattr(own, f"state_{k}").cpu()[columns] for k in ("mean", "std"))
    # (s - mean) / std = scale (s - own_mean) / own_std + shift
    scale, shift = own_std / std, (own_mean - mean) / std
    for layer in _readers(actor):
        _fold(layer, scale.to(layer.weight), shift.to(layer.weight))


@torch.no_grad()
def _reorder_cameras(actor: BehaviorCloning, clone: BehaviorCloning) -> None:
    """Give each camera of an actor with the weights of a clone, which has them in its order, its own ones.

    The actor has its cameras in alphabetical order, and a clone in that of its settings.
    """
    keys, own = clone.encoder.image_keys, actor.encoder.image_keys
    order = [keys.index(key) for key in own]  # own camera i is the clone's camera order[i]
    if len(actor.encoder.images) > 1:  # else all cameras have the same encoder
        for encoder, j in zip(actor.encoder.images, order, strict=True):
            encoder.load_state_dict(clone.encoder.images[j].state_dict())
    start = max(actor.encoder.state_dim, 0)
    for layer in _readers(actor):
        # after the vectors, each camera has as many columns
        width = (clone.encoder.width - _auxiliary_width(clone) - start) // len(order)
        blocks = layer.weight[:, start : start + width * len(order)].split(width, dim=1)
        moved = torch.cat([blocks[j] for j in order], dim=1)
        layer.weight[:, start : start + width * len(order)] = moved


def _auxiliary_width(clone: BehaviorCloning) -> int:
    return 0 if clone.encoder.auxiliary is None else clone.encoder.auxiliary.width


def _readers(actor: BehaviorCloning) -> list[nn.Linear]:
    """Return the layers that read the vectors, which come first in their input."""
    first = [actor.head, *([actor.encoder.auxiliary.net] if actor.encoder.auxiliary else [])]
    return [next(m for m in part.modules() if isinstance(m, nn.Linear)) for part in first]


@torch.no_grad()
def _fold(layer: nn.Linear, scale: torch.Tensor, shift: torch.Tensor) -> None:
    """Make a layer do for x what it did for scale x + shift, of the first entries (d,) of its input."""
    weight = layer.weight[:, : len(scale)]  # (out, d), a view
    layer.bias.add_(weight @ shift)
    weight.mul_(scale)


def _check(agent: PixelPPOAgent, clone: ModelPolicy, env: GymEnv, source: str) -> None:
    spec, wanted = clone.spec, agent.layout.actor_spec
    if not isinstance(clone.model, BehaviorCloning) or clone.declared.action_horizon > 1:
        raise UserError(
            f"The agent 'pixel_ppo' starts from a policy of the model bc with single actions; {source!r} is"
            " another one."
        )
    if spec is None or clone.description()["relative_positions"]:
        raise UserError(
            f"The policy in {source!r} reads relative positions; pixel_ppo finds them in images."
        )
    if spec.shapes != wanted.shapes:
        raise UserError(
            f"The policy in {source!r} reads {_listed(spec.shapes)}, and the actor"
            f" {_listed(wanted.shapes)}; set env.cameras and agent.actor_keys to what the policy reads."
        )
    seen, shown = _cameras(clone), _cameras(env)
    if wrong := {name: view for name, view in seen.items() if shown.get(name, view) != view}:
        views = " and ".join(f"{name} of {view}" for name, view in wrong.items())
        raise UserError(
            f"The policy in {source!r} has learned from {views}; give env.cameras the same sizes and"
            " fields of view."
        )
    learned, wanted_keys = (_positions(model) for model in (clone.model, agent.actor))
    if learned != wanted_keys:
        raise UserError(
            f"The policy in {source!r} predicts {', '.join(learned) or 'no positions'}, and the actor"
            f" {', '.join(wanted_keys) or 'none'}; set agent.auxiliary to the same, in the same order."
        )
    check_fit(agent.actor.state_dict(), clone.model.state_dict(), source)


def _positions(model: BehaviorCloning) -> tuple[str, ...]:
    """Return the names of the positions that a model predicts."""
    return () if model.encoder.auxiliary is None else model.encoder.auxiliary.keys


def _cameras(source: ModelPolicy | GymEnv) -> dict[str, str]:
    """Return {camera: its size and vertical field of view} of a contract; {} where there is none."""
    contract: EnvContract | None = getattr(source, "contract", None)
    configs = [] if contract is None else contract.env_config.get("cameras") or []
    return {
        str(c.get("name")): f"{c.get('width')}x{c.get('height')} pixels and {c.get('fov')} degrees"
        for c in configs
    }


def _listed(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{key} {tuple(shape)}" for key, shape in sorted(shapes.items()))


class _Visited:
    """The clone as a policy that remembers the vectors that the agent's critic reads.

    Attributes:
      states: (n, state_dim) of each step so far.
    """

    def __init__(self, clone: ModelPolicy, agent: PixelPPOAgent) -> None:
        self._clone, self._agent = clone, agent
        self.states: list[torch.Tensor] = []

    def reset(
        self, mask: BoolArray, seeds: Sequence[int], instructions: Sequence[str] | None = None
    ) -> None:
        """Begin episodes; see `Policy.reset`."""
        self._clone.reset(mask, seeds, instructions)

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.floating]:
        """Return the actions (n, action_dim) of the clone."""
        flat = self._agent.extractor(obs, True)  # (n, obs_dim)
        self.states.append(torch.from_numpy(flat[:, : self._agent.state_dim].copy()))
        return self._clone.act(obs)
