"""The update of PPO: passes over a rollout, a minibatch at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.rl.agents.buffer import RolloutBuffer

if TYPE_CHECKING:
    from simscaleai.rl.agents.ppo import PPOAgent

MIN_LR, MAX_LR = 1e-5, 1e-2  # between which an adaptive learning rate stays


def update(agent: PPOAgent, buffer: RolloutBuffer) -> dict[str, float]:
    """`n_epochs` passes over the buffer; means of what was measured."""
    config = agent.config
    names = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
    seen: list[torch.Tensor] = []
    for _ in range(config.n_epochs):
        first = len(seen)
        for group in agent.optimizer.param_groups:
            group["lr"] = agent.lr
        for batch in buffer.get_batches(config.batch_size, agent.noise):
            seen.append(_step(agent, *batch))
        if config.target_kl > 0 and agent.updates >= config.critic_warmup:
            _adapt_lr(agent, float(torch.stack(seen[first:])[:, 3].mean()))
    means = torch.stack(seen).mean(0).tolist()
    numbers = dict(zip(names, means, strict=True))
    if not math.isfinite(numbers["policy_loss"] + numbers["value_loss"]):
        raise UserError(
            f"At update {agent.updates + 1} the loss is not finite; lower lr, or look for extreme"
            " rewards or observations."
        )
    numbers["explained_variance"] = explained_variance(buffer)
    numbers["lr"] = agent.lr
    numbers["action_std"] = agent.network.log_std.detach().exp().mean().item()
    return numbers


def _adapt_lr(agent: PPOAgent, kl: float) -> None:
    kl = agent.processes.all_reduce_mean(torch.tensor(kl, dtype=torch.float64)).item()
    if kl > 2 * agent.config.target_kl:
        agent.lr = max(agent.lr / 1.5, MIN_LR)
    elif kl < agent.config.target_kl / 2:
        agent.lr = min(agent.lr * 1.5, MAX_LR)


def _step(
    agent: PPOAgent,
    obs: torch.Tensor,
    actions: torch.Tensor,
    old_log_prob: torch.Tensor,
    returns: torch.Tensor,
    advantages: torch.Tensor,
) -> torch.Tensor:
    """One optimizer step; (5,): the losses, entropy, KL and clip fraction of `_update`."""
    config = agent.config
    log_prob, value, entropy = agent.network.evaluate_actions(obs, actions)
    log_ratio = log_prob - old_log_prob
    ratio = log_ratio.exp()
    old_value = returns - advantages
    if len(advantages) > 1:  # one number has no spread to be divided by
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    low, high = 1 - config.clip_epsilon, 1 + config.clip_epsilon
    policy_loss = -torch.min(ratio * advantages, ratio.clamp(low, high) * advantages).mean()
    errors = (value - returns) ** 2
    if config.clip_value:
        near = old_value + (value - old_value).clamp(-config.clip_epsilon, config.clip_epsilon)
        errors = torch.max(errors, (near - returns) ** 2)
    value_loss, spread = errors.mean(), entropy.mean()
    loss = config.value_loss_coef * value_loss
    if agent.updates >= config.critic_warmup:
        loss = loss + policy_loss - config.entropy_coef * spread
    agent.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    _average_gradients(agent)
    nn.utils.clip_grad_norm_(agent.network.parameters(), config.max_grad_norm)
    agent.optimizer.step()
    with torch.no_grad():
        # k3 of Schulman, "Approximating KL Divergence", 2020
        kl = (ratio - 1 - log_ratio).mean()
        clipped = ((ratio - 1).abs() > config.clip_epsilon).float().mean()
        return torch.stack((policy_loss, value_loss, spread, kl, clipped))


def _average_gradients(agent: PPOAgent) -> None:
    """Replace gradients by their means over the processes, in one message."""
    if agent.processes.size == 1:
        return
    gradients = [p.grad for p in agent.network.parameters() if p.grad is not None]
    flat = agent.processes.all_reduce_mean(torch.cat([g.flatten() for g in gradients]))
    parts = flat.split([g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def explained_variance(buffer: RolloutBuffer) -> float:
    """Share of the variance of the returns that the values account for; NaN where there is none."""
    returns, values = buffer.returns[buffer.valid], buffer.values[buffer.valid]
    variance = returns.var(correction=0).item()
    if variance == 0:
        return math.nan
    return 1 - (returns - values).var(correction=0).item() / variance
