"""Who acts while data is generated: by name, or a trained model by its checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from simscaleai.errors import MissingFileError, UserError, did_you_mean
from simscaleai.policy import Policy, RandomPolicy

NAMES = ("random", "scripted")


def policy_sha256(policy_type: str) -> str:
    """What identifies a checkpoint whatever its path; "" for a named policy.

    Raises:
      MissingFileError: neither a known name nor a file.
    """
    if policy_type in NAMES:
        return ""
    path = Path(policy_type)
    if not path.is_file():
        raise MissingFileError(
            f"Unknown policy {policy_type!r}: give {', '.join(map(repr, NAMES))} or the path of a"
            f" checkpoint.{did_you_mean(policy_type, NAMES)}"
        )
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
