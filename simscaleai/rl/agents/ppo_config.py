"""Settings of PPO; symbols in comments are those of `PPOAgent._optimize`."""

from __future__ import annotations

from dataclasses import dataclass, field

from simscaleai.rl.agents.agent_config import AgentConfig


@dataclass
class PPOConfig(AgentConfig):
    """Settings of PPO: those of `AgentConfig`, and the following.

    A rollout has `n_steps` steps of each environment. Defaults are for a single environment;
    `PPOAgent.run_defaults` are for many.

    Attributes:
      hidden_dim, n_layers, log_std_init, separate_critic, orthogonal_init: see `ActorCritic`.
      clip_epsilon: the ratio of new to old probabilities is clipped to 1 +- clip_epsilon.
      value_loss_coef, entropy_coef: weights of the value loss and of the mean entropy.
      max_grad_norm: gradients are clipped to this norm.
      gamma, gae_lambda: discount of rewards, and of temporal differences in GAE.
      lr: learning rate of Adam.
      n_epochs: passes over a rollout.
      batch_size: steps in a minibatch, in each process.
      target_kl: above 0, the learning rate adapts to the measured KL divergence: it is divided by 1.5
        after an epoch with more than twice this divergence, and multiplied after one with less than half.
      clip_value: clip the value to `clip_epsilon` around the old one in the value loss.
      scale_reward: divide rewards by the standard deviation of their discounted sums.
      critic_warmup: number of initial updates that train only the value function, for a pretrained actor.
    """

    hidden_dim: int = 256
    n_layers: int = 2
    clip_epsilon: float = 0.2  # eps
    value_loss_coef: float = 0.5  # c_v
    entropy_coef: float = 0.01  # c_e
    max_grad_norm: float = 0.5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    lr: float = 3e-4
    n_steps: int = field(default=2048, kw_only=True)
    n_epochs: int = 10
    batch_size: int = 64
    log_std_init: float = 0.0
    separate_critic: bool = False
    orthogonal_init: bool = True
    target_kl: float = 0.0  # nats
    clip_value: bool = False
    scale_reward: bool = True
    critic_warmup: int = 0

    def problems(self) -> list[str]:
        """Return a clause for each setting that is out of range."""
        return [
            *super().problems(),
            *self.not_positive("n_epochs", "batch_size", "hidden_dim", "lr"),
            *self.outside_unit("gamma", "gae_lambda"),
        ]
