"""A policy on a server, as a policy source: "ws://10.0.0.5:8765"."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array, BoolArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.observations import is_image_key, read_shapes

_PATIENCE = 300.0  # s for an answer: a simulation waits, and many envs of a large model take long

if TYPE_CHECKING:
    from simscaleai.rollout.policy_client import PolicyClient


def is_server(name: str) -> bool:
    """Return whether a policy's name is the address of a server; needs no optional package."""
    return name.startswith(("ws://", "wss://"))


class ServedPolicy:
    """`Policy` whose actions a server computes.

    Args:
      url: address of `simscale serve`.

    Attributes:
      contract: of the environment that the policy was trained in; None if the server says none.
      images: {key: shape} of the images that it reads.
      sha256: of its checkpoint.

    Raises:
      UserError: the server cannot be reached, or what it says is damaged.
    """

    def __init__(self, url: str) -> None:
        for package in ("websockets", "msgpack"):
            if find_spec(package) is None:
                raise UserError(
                    f"A policy on a server needs {package}; install it with: pip install 'simscaleai[serve]'."
                )
        from simscaleai.rollout.policy_client import PolicyClient, PolicyServerError

        self._error: type[Exception] = PolicyServerError
        try:
            self._client: PolicyClient = PolicyClient(url, _PATIENCE)
        except PolicyServerError as error:
            raise _refused(error) from None
        # a policy has no end, and connections are limited
        self._finalizer = weakref.finalize(self, self._client.close)
        about = self._client.about
        contract, sha256 = about.get("contract"), about.get("sha256")
        self.contract = EnvContract.from_dict(contract) if isinstance(contract, dict) else None
        self.sha256 = sha256 if isinstance(sha256, str) else ""
        self.images = _images(about.get("obs"))

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Start new episodes; see `Policy.reset`."""
        try:
            self._client.reset(mask, seeds, instructions)
        except self._error as error:
            raise _refused(error) from None

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        """Return actions (n, action_dim); see `Policy.act`."""
        try:
            return self._client.act(obs)
        except self._error as error:
            raise _refused(error) from None

    def close(self) -> None:
        """Disconnect."""
        self._finalizer()


def _images(obs: object) -> dict[str, tuple[int, ...]]:
    if not isinstance(obs, dict):
        return {}
    pairs = {key: value for key, value in obs.items() if is_image_key(key)}
    try:
        shapes, _ = read_shapes(
            {key: shape for key, (shape, _) in pairs.items()},
            {key: dtype for key, (_, dtype) in pairs.items()},
        )
    except (TypeError, ValueError):
        raise UserError("The server's list of observations is damaged.") from None
    return shapes


def _refused(error: Exception) -> UserError:
    return UserError(f"The policy server refused: {str(error).rstrip('.')}.")
