"""Serve a policy to robots and evaluations on other machines, over WebSockets.

    server = PolicyServer("runs/a/final.pt")
    asyncio.run(server.serve(listen("127.0.0.1", 8765), stop))

`rollout.policy_client` describes the messages and is the client. Each connection has a policy with action
queues of its own; all share the weights. The network runs in one thread, one request after the other, and the
event loop goes on meanwhile.

Promises: messages are data and never code. A message that is larger than this policy can need, or is no
message of the protocol, ends its connection and no other. Each connection holds at most one message and one
answer, and their number is limited, so that memory is bounded.

Trap: there is no password and no encryption. Serve on 127.0.0.1, the default, and use an SSH tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from simscaleai.convert import plain
from simscaleai.errors import UserError
from simscaleai.evaluation.report_folder import short_names
from simscaleai.json_types import JsonDict
from simscaleai.policy import Policy
from simscaleai.rollout.policies import (
    NAMES,
    function_policy,
    is_function,
    policy_sha256,
    resolve_policy,
)
from simscaleai.rollout.policy_client import MAX_BYTES, MAX_ENVS, PROTOCOL, pack, unpack
from simscaleai.rollout.served_policy import is_server
from simscaleai.tools.policy_requests import episodes, observations

logger = logging.getLogger(__name__)

SEND_SECONDS = 20.0
"""A client that takes longer to read an answer is disconnected."""

_REST_BYTES = 2**18  # of a message besides arrays: names, seeds, instructions
_UNSUPPORTED, _INVALID, _INTERNAL, _LATER = 1003, 1008, 1011, 1013  # close codes of RFC 6455


class PolicyServer:
    """See the module docstring.

    Args:
      name: checkpoint, folder or name of a run, or "module:function".
      device: where a checkpoint's model runs.
      max_envs: largest number of envs of a connection.
      max_connections: further ones are refused with HTTP status 503.

    Attributes:
      max_bytes: size of the largest message.

    Raises:
      UserError: there is no such policy, or it cannot be served.
    """

    def __init__(
        self,
        name: str,
        device: str = "auto",
        max_envs: int = 128,
        max_connections: int = 32,
    ) -> None:
        if name in NAMES or is_server(name):
            raise UserError(
                f"The policy {name!r} cannot be served, since it belongs to an environment or a server; give"
                " a checkpoint or 'module:function'."
            )
        if not 1 <= max_envs <= MAX_ENVS:
            raise UserError(f"max_envs is {max_envs}; it must be between 1 and {MAX_ENVS}.")
        self.max_envs, self.max_connections = max_envs, max_connections
        self.title = short_names([resolve_policy(name)])[0]
        self._about: JsonDict = {
            "protocol": PROTOCOL,
            "policy": self.title,
            "sha256": policy_sha256(name),
            "obs": None,
            "contract": None,
        }
        self.max_bytes = MAX_BYTES
        self._new_policy = self._factory(resolve_policy(name), device)
        self._executor = ThreadPoolExecutor(
            1, "policy"
        )  # a model is not called by two threads at once
        self._connected = 0

    def _factory(self, name: str, device: str) -> Callable[[], Policy]:
        """Return what makes the policy of a connection; fill in what the server says of it."""
        if is_function(name):
            if function_policy(name) is function_policy(name):
                raise UserError(
                    f"The policy {name!r} is one object, whose state all connections would share; give its"
                    " class, or a function."
                )
            return lambda: function_policy(name)
        from simscaleai.models.policy import ModelPolicy

        model = ModelPolicy.from_checkpoint(name, device)
        if model.contract is not None:
            self._about["contract"] = plain(model.contract.to_dict())
        if model.spec is not None:
            shapes, dtypes = model.spec.shapes, model.spec.dtypes
            self._about["obs"] = {key: [list(shapes[key]), dtypes[key]] for key in shapes}
            # environments observe numbers in double precision
            sizes = [
                math.prod(shapes[k]) * max(8, np.dtype(dtypes[k]).itemsize)
                if k in model.spec.state_keys
                else math.prod(shapes[k]) * np.dtype(dtypes[k]).itemsize
                for k in shapes
            ]
            self.max_bytes = min(MAX_BYTES, _REST_BYTES + self.max_envs * sum(sizes))
        return model.fork

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Serve on a listening socket until `stop` is set."""
        async with serve(
            self._handle,
            sock=listening,
            process_request=self._admit,
            origins=[None],  # web pages name their origin; robots have none
            max_size=self.max_bytes,
            max_queue=1,
            compression=None,
            close_timeout=5,
            server_header=None,
        ):
            await stop.wait()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self._connected < self.max_connections:
            return None
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._full}\n")

    @property
    def _full(self) -> str:
        return f"this server takes {self.max_connections} connections; try again later"

    async def _handle(self, connection: ServerConnection) -> None:
        if self._connected >= self.max_connections:  # several may be admitted at the same moment
            await connection.close(_LATER, self._full)
            return
        self._connected += 1
        try:
            await self._converse(connection)
        except (ConnectionClosed, TimeoutError):  # clients come and go
            pass
        except Exception:
            logger.exception("The policy failed.")
            await connection.close(_INTERNAL, "the policy failed; the server's log says why")
        finally:
            self._connected -= 1

    async def _converse(self, connection: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        policy = await loop.run_in_executor(self._executor, self._new_policy)
        await _send(connection, pack({"type": "hello", **self._about}))
        async for data in connection:
            if isinstance(data, str):
                await connection.close(_UNSUPPORTED, "messages are binary")
                return
            try:
                answer = await loop.run_in_executor(self._executor, self._answer, policy, data)
            except ValueError as error:
                await connection.close(_INVALID, _short(error))
                return
            await _send(connection, answer)

    def _answer(self, policy: Policy, data: bytes) -> bytes:
        """Return the answer to a message; ValueError if it is none of the protocol."""
        message = unpack(data)
        try:
            if message["type"] == "reset":
                policy.reset(*episodes(message, self.max_envs))
                return pack({"type": "ok"})
            if message["type"] == "act":
                actions = policy.act(observations(message, self.max_envs))
                return pack({"type": "actions", "actions": np.asarray(actions, np.float32)})
        except UserError as error:  # the client may do better next time
            return pack({"type": "error", "message": str(error)})
        raise ValueError(f"there is no message {message['type'][:20]!r}")


async def _send(connection: ServerConnection, data: bytes) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await connection.send(data)


def _short(error: Exception) -> str:
    """Return a reason that fits into a close frame (123 bytes)."""
    return str(error).encode()[:120].decode(errors="ignore")


def run_until_stopped(server: PolicyServer, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # on Windows, Ctrl-C raises
                loop.add_signal_handler(number, stop.set)
        await server.serve(listening, stop)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())
