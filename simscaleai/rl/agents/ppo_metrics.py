"""The panels in which figures show the metrics of PPO."""

from __future__ import annotations

from simscaleai.rl.agents.metric_group import MetricGroup

METRIC_GROUPS = (
    MetricGroup("Policy loss", "clipped surrogate", {"policy_loss": "policy loss"}),
    MetricGroup("Value loss", "squared error", {"value_loss": "value loss"}, log=True),
    MetricGroup(
        "Explained variance of the value",
        "fraction",
        {"explained_variance": "explained variance"},
        reference=1.0,  # a value function that predicts every return
    ),
    MetricGroup(
        # both measure how far an update moves the policy
        "Change of the policy",
        "per update",
        {"clip_fraction": "fraction of samples clipped", "approx_kl": "KL divergence (nats)"},
        log=True,
        progress={"approx_kl": "KL {:.3f}"},
    ),
    MetricGroup(
        "Noise of the actions",
        "standard deviation",
        {"action_std": "standard deviation"},
        from_zero=True,
    ),
)
