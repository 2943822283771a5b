"""PPO from images: the actor sees, the critic knows the state.

    simscale rl --config configs/rl/reach_images.yaml

The environment observes images (`env.cameras`) and its usual vectors. The trained policy reads the images
and `actor_keys` alone, so `simscale eval` and a robot's own program run it without any state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, cast

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.models.bc import BehaviorCloning
from simscaleai.models.features import HAND
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import is_image
from simscaleai.rl.agents.agent import Metrics, register_agent
from simscaleai.rl.agents.agent_config import AgentConfig
from simscaleai.rl.agents.demonstrations import Demonstrations
from simscaleai.rl.agents.pixel_actor_critic import PixelActorCritic, PixelExtractor, PixelLayout
from simscaleai.rl.agents.pixel_ppo_config import PixelPPOConfig
from simscaleai.rl.agents.ppo import PPOAgent
from simscaleai.rl.agents.rollout_buffer import RolloutBuffer

DEMONSTRATED = 4  # a minibatch comes with a fourth of its size in demonstrated steps


@register_agent("pixel_ppo")
class PixelPPOAgent(PPOAgent):
    """`PPOAgent` with an actor that reads images; `obs_dim` counts their pixels too.

    Attributes:
      layout: where the parts of an observation are.
    """

    config_class = PixelPPOConfig
    config: PixelPPOConfig
    network: PixelActorCritic
    _demonstrations: Demonstrations | None = None

    @classmethod
    def for_space(
        cls,
        space: gymnasium.spaces.Dict,
        action_dim: int,
        config: AgentConfig,
        device: str = "cpu",
        processes: Processes | None = None,
    ) -> Self:
        own = cast(PixelPPOConfig, config)
        shapes = {key: part.shape or () for key, part in space.items()}
        images = [key for key in shapes if is_image(key, shapes[key], space[key].dtype or float)]
        several = [key for key in images if key.startswith("images/")]
        vectors = own.state_keys or [key for key in shapes if key not in images]
        # with several cameras, `image` is the first of them again
        chosen = [*vectors, *(several or [key for key in images if key == "image"])]
        if missing := [key for key in chosen if key not in shapes]:
            raise UserError(
                f"The environment does not observe {', '.join(missing)}; it observes"
                f" {', '.join(shapes)}."
            )
        config = replace(own, shapes={key: list(shapes[key]) for key in chosen})
        return cls(_layout(config).width, action_dim, config, device, processes)

    @classmethod
    def make_extractor(cls, config: AgentConfig) -> PixelExtractor:
        return PixelExtractor(_layout(config))

    @classmethod
    def make_network(cls, obs_dim: int, action_dim: int, config: AgentConfig) -> PixelActorCritic:
        layout = _layout(config)
        if layout.width != obs_dim:
            raise UserError(
                f"obs_dim is {obs_dim}, and the observations have {layout.width} entries."
            )
        return PixelActorCritic(layout, action_dim, cast(PixelPPOConfig, config))

    def parameter_groups(self) -> list[dict[str, Any]]:
        network, config = self.network, self.config
        actor, critic = network.actor, (network.critic_features, network.critic)
        # in the order of `network.parameters()`, by which checkpoints number them
        parts = (
            ([network.log_std], 0.0),
            ([*actor.encoder.parameters()], config.encoder_lr),
            ([*actor.head.parameters()], 0.0),
            ([p for part in critic for p in part.parameters()], config.critic_lr),
        )
        return [{"params": p, **({"own_lr": lr} if lr > 0 else {})} for p, lr in parts]

    def update(self) -> Metrics:
        metrics = super().update()
        if metrics:  # of the last minibatch
            metrics |= {k: v.item() for k, v in self.network.position_errors.items()}
        return metrics

    def further_losses(self) -> list[torch.Tensor]:
        config, losses = self.config, []
        positions = self.network.take_auxiliary_loss()
        if positions is not None and (self.warmed_up or config.encoder_lr > 0):
            losses.append(positions)
        left = 1 - self.timesteps / config.total_timesteps
        if self._demonstrations is not None and (weight := config.demonstration_weight * left) > 0:
            size = max(1, config.batch_size // DEMONSTRATED)
            obs, actions = self._demonstrations.batch(size, self.generator)
            flat = self.normalized(self.extractor(obs, True))
            units = torch.from_numpy(self.actions.units(actions)).to(self.device)
            losses.append(weight * self.network.imitation_loss(flat, units))
        return losses

    @property
    def actor(self) -> BehaviorCloning:  # type: ignore[override] # it has an encoder and a head
        return self.network.actor

    @property
    def layout(self) -> PixelLayout:
        return self.network.layout

    @property
    def state_dim(self) -> int:
        return _layout(self.config).state_dim

    def begin(self, num_envs: int, resumed: bool) -> None:
        super().begin(num_envs, resumed)
        # behind the observation come the positions that the actor learns to predict
        width = self.layout.width + len(self._raw_columns)
        self.buffer = RolloutBuffer(
            self.config.n_steps, width, self.action_dim, str(self.device), num_envs
        )
        if self.config.demonstrations:
            shapes = self.layout.shapes
            self._demonstrations = Demonstrations(self.config.demonstrations, shapes)

    @property
    def _raw_columns(self) -> list[int]:
        positions = self.layout.positions
        return self.layout.columns((HAND, *positions)) if positions else []

    def normalized(
        self, obs: NDArray[np.float32], normalizer: Normalizer | None = None
    ) -> torch.Tensor:
        """Return observations (n, obs_dim) with normalized vectors, pixels in [0, 1], and raw positions."""
        flat = torch.from_numpy(np.ascontiguousarray(obs))
        d = self.layout.state_dim
        vectors = (normalizer or self.normalizer()).normalize("state", flat[:, :d])
        # (n, state_dim), (n, pixels) and (n, 3 (1 + K))
        parts = [vectors, flat[:, d:] / 255, flat[:, self._raw_columns]]
        return torch.cat(parts, dim=1).to(self.device)

    def mean_actions(self, obs: NDArray[np.float32]) -> torch.Tensor:
        return self.network.mean(self.normalized(obs)[:, : self.layout.width])

    def policy(self) -> ModelPolicy:
        spec, columns = self.layout.actor_spec, self.layout.columns(self.layout.actor_keys)
        observed = {}
        if columns:  # the actor may read images alone
            full = self._obs_statistics()
            chosen = (part[columns] for part in (full.mean, full.std, full.min, full.max))
            observed["state"] = Statistics(*chosen)
        return self._policy_of(spec, observed, relative_positions=False)


def _layout(config: AgentConfig) -> PixelLayout:
    own = cast(PixelPPOConfig, config)
    shapes: Mapping[str, list[int]] = own.shapes
    wanted = [*own.auxiliary, HAND] if own.auxiliary else []
    return PixelLayout(shapes, own.actor_keys, [key for key in wanted if key != HAND])
