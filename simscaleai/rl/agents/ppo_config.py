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
      clip_epsilon: how far the ratio of new to old probabilities counts.
      value_loss_coef, entropy_coef: weights of the value's loss and of the entropy.
      max_grad_norm: largest norm of the gradient.
      gamma, gae_lambda: discount of rewards, and of the advantage's horizon.
      lr: of Adam.
      n_steps: steps of each environment in a rollout.
      n_epochs: passes over a rollout.
      batch_size: steps in a minibatch, of each process.
      total_timesteps: steps of all environments together.
      log_every: updates between records.
      target_kl: where above 0, the learning rate follows the measured KL divergence: it shrinks by 1.5
        when an epoch moved the policy more than twice as far, and grows when less than half as far.
      clip_value: keep the value within `clip_epsilon` of the old one.
      normalize_obs, scale_reward: see the module docstring.
      state_keys, relative_positions: see `view.StateView`.
      critic_warmup: updates at the start that train the value alone; for an actor that can already act.
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
