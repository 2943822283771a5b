"""The networks of an actor-critic method."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Normal

from simscaleai.models.mlp import MLPPolicy, mlp, orthogonal
from simscaleai.models.registry import create_model


class ActorCritic(nn.Module):
    """A Gaussian policy and a value function, with shared or separate features.

    Args:
      obs_dim: width of an observation.
      action_dim: width of an action.
      hidden_dim, n_layers: width and number of the tanh layers.
      log_std_init: initial logarithm of the standard deviation of actions, the same in every state.
      separate_critic: give the value function layers of its own.
      orthogonal_init: orthogonal output layers with gain 0.01 for actions and 1 for values, as in Engstrom
        et al. (2020); otherwise PyTorch's defaults.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden_dim: int = 256,
        n_layers: int = 2,
        *,
        log_std_init: float = 0.0,
        separate_critic: bool = False,
        orthogonal_init: bool = True,
    ) -> None:
        super().__init__()
        self.actor = create_actor(obs_dim, action_dim, hidden_dim, n_layers)
        self.log_std = nn.Parameter(torch.full((action_dim,), float(log_std_init)))
        features, width = mlp(obs_dim, hidden_dim, n_layers)
        self.critic_features = features if separate_critic else None
        self.critic = nn.Linear(width, 1)
        if orthogonal_init:
            # nearly the same small action in every state at first: exploration comes from the noise alone
            orthogonal(self.actor.output, 0.01)
            orthogonal(self.critic, 1.0)

    def forward(self, obs: torch.Tensor) -> tuple[Normal, torch.Tensor]:
        """Return the distribution of actions (..., action_dim) and values (...,) for obs (..., obs_dim)."""
        features = self.actor.features(obs)  # (..., hidden_dim)
        value_features = features if self.critic_features is None else self.critic_features(obs)
        distribution = Normal(self.actor.output(features), self.log_std.exp(), validate_args=False)
        return distribution, self.critic(value_features)[..., 0]

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the values (...,) alone."""
        features = self.actor.features if self.critic_features is None else self.critic_features
        values: torch.Tensor = self.critic(features(obs))[..., 0]
        return values

    def get_action(
        self,
        obs: torch.Tensor,
        deterministic: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return an action (..., action_dim), its log-probability (...,) and the value (...,).

        `generator`, on the CPU, draws the noise; by default the global one does.
        """
        distribution, value = self(obs)
        action = distribution.mean  # (..., action_dim)
        if not deterministic:
            noise = torch.randn(action.shape, generator=generator).to(action.device)
            # not `distribution.sample()`, which takes no generator
            action = action + noise * distribution.stddev
        return action, distribution.log_prob(action).sum(-1), value

    def evaluate_actions(
        self, obs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log-probabilities, values and entropies, each (...,), of given actions."""
        distribution, value = self(obs)
        return distribution.log_prob(actions).sum(-1), value, distribution.entropy().sum(-1)


def create_actor(obs_dim: int, action_dim: int, hidden_dim: int, n_layers: int) -> MLPPolicy:
    """Return the network of mean actions, as a registered model: a checkpoint rebuilds it by name."""
    sizes = {"hidden_dim": hidden_dim, "n_layers": n_layers}
    actor = create_model("mlp", state_dim=obs_dim, action_dim=action_dim, **sizes)
    assert isinstance(actor, MLPPolicy)
    return actor
