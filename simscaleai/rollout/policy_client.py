"""Client of `simscale serve`: act with a policy that runs on another machine.

    with PolicyClient("ws://10.0.0.5:8765") as policy:
        policy.reset([True], [0], ["pick up the red cube"])
        while True:
            action = policy.act({"joint_pos": q[None], "image": image[None]})[0]     # (action_dim,)

This file needs NumPy, msgpack and websockets, and nothing else of the package: copy it to the computer of a
robot.

Every message is one binary WebSocket message of msgpack, a map with the entry "type":

    client                                              server
                                                        hello: protocol, policy, sha256, obs, contract
    reset: mask (n,) bool, seeds [n], instructions      ok
    act: obs {key: (n, ...)}                            actions: actions (n, action_dim) float32
                                                        error: message; the connection stays open

An array is an extension type of code 1: msgpack of [dtype, shape, bytes in C order], for the dtypes below.
Nothing in a message is code. A connection has a policy with action queues of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import connect

PROTOCOL = 1
PORT = 8765
MAX_BYTES = 32 * 2**20
"""Largest message: 64 envs with two images of 256 x 256 are 25 MB."""

MAX_ENVS = 1024
_ARRAY = 1  # code of the extension type
_DTYPES = ("|b1", "|u1", "|i1", "<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8")
_MAX_AXES = 8


class PolicyServerError(RuntimeError):
    """The server cannot be reached, or refused a request; the text says why."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Return a message as bytes; its values are plain values and arrays."""
    packed: bytes = msgpack.packb(message, default=_pack_array)
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """Return the message in bytes from anywhere; ValueError if they hold none."""
    try:
        # the long parts of a message are arrays, and so a long list is an attack
        message = msgpack.unpackb(
            data,
            ext_hook=_unpack_array,
            strict_map_key=True,
            max_array_len=MAX_ENVS,
            max_map_len=256,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ValueError(f"not a message of this protocol: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ValueError("not a message of this protocol: there is no type")
    return message


def _pack_array(value: object) -> msgpack.ExtType:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{type(value).__name__} cannot be sent; give numbers, texts and arrays")
    array = np.asarray(value, order="C")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype.str not in _DTYPES:
        raise TypeError(f"an array of {array.dtype} cannot be sent")
    return msgpack.ExtType(
        _ARRAY, msgpack.packb([array.dtype.str, list(array.shape), array.tobytes()])
    )


def _unpack_array(code: int, data: bytes) -> NDArray[Any]:
    content = msgpack.unpackb(data) if code == _ARRAY else None
    match content:
        case [str(dtype), list(shape), bytes(raw)] if dtype in _DTYPES and len(shape) <= _MAX_AXES:
            sizes = [n for n in shape if type(n) is int and 0 <= n <= MAX_BYTES]
            # exact integers: a product of huge sizes cannot wrap around
            if sizes == shape and math.prod(sizes) * np.dtype(dtype).itemsize == len(raw):
                return np.frombuffer(raw, dtype).reshape(sizes).copy()  # writable
    raise ValueError("an array is damaged")


class PolicyClient:
    """Policy on a server; see the module docstring.

    Args:
      url: such as "ws://127.0.0.1:8765".
      timeout: seconds to wait for a connection, and for each answer.

    Attributes:
      about: the server's hello: "policy" (its name), "sha256" (of its checkpoint), "obs" ({key: [shape,
        dtype]} of one env, or None for any) and "contract" (of the environment it was trained in, or None).

    Raises:
      PolicyServerError: there is no such server, or one of another protocol.
    """

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self.url, self._timeout = url, timeout
        self._stack = ExitStack()
        try:
            self._socket = self._stack.enter_context(
                connect(
                    url,
                    open_timeout=timeout,
                    max_size=MAX_BYTES,
                    compression=None,  # numbers do not compress, and a control loop cannot wait
                    proxy=None,
                )
            )
        except (OSError, InvalidURI, InvalidHandshake, ConnectionClosed, ValueError) as error:
            raise PolicyServerError(f"{url} cannot be reached: {error}") from None
        self.about = self._receive("hello")
        if self.about.get("protocol") != PROTOCOL:
            self.close()
            raise PolicyServerError(
                f"{url} has protocol {self.about.get('protocol')}, expected {PROTOCOL}"
            )

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._stack.close()

    def reset(
        self,
        mask: Sequence[bool] | NDArray[np.bool_],
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Start new episodes in the envs where `mask` (n,) is True; n seeds and n instructions."""
        message = {
            "type": "reset",
            "mask": np.asarray(mask, dtype=bool),
            "seeds": [int(seed) for seed in seeds],
            "instructions": None if instructions is None else list(instructions),
        }
        self._ask(message, "ok")

    def act(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return actions (n, action_dim) for raw observations {key: (n, ...)}."""
        arrays = {key: np.asarray(value) for key, value in obs.items()}
        wanted = self.about.get("obs")
        if isinstance(wanted, dict) and wanted.keys() <= arrays.keys():
            arrays = {
                key: arrays[key] for key in wanted
            }  # what the policy does not read is not sent
        actions = self._ask({"type": "act", "obs": arrays}, "actions").get("actions")
        if not isinstance(actions, np.ndarray) or actions.dtype != np.float32 or actions.ndim != 2:
            raise PolicyServerError(f"{self.url} gave no actions")
        return actions

    def _ask(self, message: Mapping[str, Any], answer: str) -> dict[str, Any]:
        data = pack(message)
        if len(data) > MAX_BYTES:
            raise PolicyServerError(
                f"a message of {len(data)} bytes is too large ({MAX_BYTES}); act for fewer envs at once"
            )
        try:
            self._socket.send(data)
        except ConnectionClosed as error:
            raise self._closed(error) from None
        return self._receive(answer)

    def _receive(self, answer: str) -> dict[str, Any]:
        try:
            data = self._socket.recv(timeout=self._timeout, decode=False)
            message = unpack(bytes(data))
        except TimeoutError:
            self.close()  # the answer may come later, and would be taken for that of the next request
            raise PolicyServerError(f"{self.url} did not answer in {self._timeout:g} s") from None
        except ConnectionClosed as error:
            raise self._closed(error) from None
        except ValueError as error:
            raise PolicyServerError(f"{self.url} sent something else: {error}") from None
        if message["type"] != answer:
            raise PolicyServerError(str(message.get("message", f"{self.url} gave no {answer}")))
        return message

    def _closed(self, error: ConnectionClosed) -> PolicyServerError:
        reason = error.rcvd.reason if error.rcvd is not None else ""
        return PolicyServerError(f"{self.url} closed the connection: {reason or error}")
