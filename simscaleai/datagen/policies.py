"""Who acts while data is generated: by name, or a trained model by its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simscaleai.errors import MissingFileError, UserError, did_you_mean
from simscaleai.policy import Policy, RandomPolicy
from simscaleai.storage.find_checkpoint import RUNS, checkpoint_sha256, find_checkpoint

NAMES = ("random", "scripted")


def find_policy(policy_type: str) -> str:
    """Return a policy's name, or the path of the checkpoint that is meant; see `find_checkpoint`.

    Raises:
      MissingFileError: neither a known name nor a checkpoint.
    """
    if policy_type in NAMES:
        return policy_type
    if not Path(policy_type).exists() and not (RUNS / policy_type).exists():
        raise MissingFileError(
            f"Unknown policy {policy_type!r}: give {', '.join(map(repr, NAMES))}, the path of a"
            f" checkpoint, or a run's folder or name.{did_you_mean(policy_type, NAMES)}"
        )
    return str(find_checkpoint(policy_type))


def policy_sha256(policy_type: str) -> str:
    """What identifies a checkpoint whatever its path; "" for a named policy; errors as of `find_policy`."""
    found = find_policy(policy_type)
    return "" if found in NAMES else checkpoint_sha256(found)


def make_policy(policy_type: str, env: Any) -> Policy:
    """The policy `policy_type` for the vector environment `env`."""
    if policy_type == "random":
        return RandomPolicy(env.contract.action_dim)
    if policy_type == "scripted":
        expert = getattr(env.task, "expert", None)
        if expert is None:
            raise UserError(
                f"The task {env.contract.env_name!r} has no scripted expert; choose the policy"
                " 'random' or a checkpoint."
            )
        return expert()
    # Only here is torch needed, and only by those who ask for a model.
    from simscaleai.models.policy import ModelPolicy

    policy = ModelPolicy.from_checkpoint(policy_type)
    if policy.contract is not None:
        policy.contract.require(env.contract)
    return policy
