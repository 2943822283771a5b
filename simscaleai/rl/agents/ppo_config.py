"""Settings of PPO."""

from __future__ import annotations

from dataclasses import dataclass

from simscaleai.convert import Converted


@dataclass
class PPOConfig(Converted):
    """Settings of PPO.

    Attributes:
      hidden_dim, n_layers: of the network; see `ActorCritic`, also for `log_std_init`,
        `separate_critic` and `orthogonal_init`.
      clip_epsilon: the ratio of new to old probabilities is clipped to 1 +- clip_epsilon.
      value_loss_coef, entropy_coef: weights of the value loss and of the mean entropy.
      max_grad_norm: gradients are clipped to this norm.
      gamma, gae_lambda: discount of rewards, and of temporal differences in GAE.
      lr: learning rate of Adam.
      n_steps: steps of each environment in a rollout.
      n_epochs: passes over a rollout.
      batch_size: steps in a minibatch, of each process.
      total_timesteps: steps of all environments together.
      log_every: updates between records.
      target_kl: above 0, the learning rate adapts to the measured KL divergence: it is divided by 1.5
        after an epoch with more than twice this divergence, and multiplied after one with less than half.
      clip_value: clip the value to `clip_epsilon` around the old one in the value loss.
      normalize_obs: normalize observations by running statistics.
      scale_reward: divide rewards by the standard deviation of their discounted sums.
      state_keys, relative_positions: what the agent reads; see `StateExtractor`.
      critic_warmup: initial updates that train the value alone, for an actor that can already act.
      seed: decides weights, noise, minibatches and the environment's episodes.
    """

    hidden_dim: int = 256
    n_layers: int = 2
    clip_epsilon: float = 0.2
    value_loss_coef: float = 0.5
    entropy_coef: float = 0.01
    max_grad_norm: float = 0.5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    lr: float = 3e-4
    n_steps: int = 2048
    n_epochs: int = 10
    batch_size: int = 64
    total_timesteps: int = 1_000_000
    log_every: int = 10
    log_std_init: float = 0.0
    separate_critic: bool = False
    orthogonal_init: bool = True
    target_kl: float = 0.0
    clip_value: bool = False
    normalize_obs: bool = True
    scale_reward: bool = True
    critic_warmup: int = 0
    state_keys: list[str] | None = None
    relative_positions: bool = False
    seed: int = 0

    def problems(self) -> list[str]:
        """Return a clause for each setting that is out of range."""
        positive = ("n_steps", "n_epochs", "batch_size", "total_timesteps", "hidden_dim", "lr")
        wrong = [
            f"{name} is {getattr(self, name)}, it must be positive"
            for name in (*positive, "log_every")
            if not getattr(self, name) > 0
        ]
        return wrong + [
            f"{name} is {getattr(self, name)}, it lies between 0 and 1"
            for name in ("gamma", "gae_lambda")
            if not 0 <= getattr(self, name) <= 1
        ]
