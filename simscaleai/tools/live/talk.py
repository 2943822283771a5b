"""The panel above the browser viewer: what to do, in words, and which policy does it.

The page sends JSON texts over a WebSocket, and gets the state of the player whenever it changes:

    {"instruction": "pick up the red cube"}     # "" for the task's own again
    {"policy": 1}                               # index in "policies" of the state

Messages come from a browser, and are read as untrusted data: a message that is too long or none of these ends
its connection. The simulation takes them between two frames, in the thread that runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from simscaleai.errors import UserError, printable
from simscaleai.tools.live.player import Player
from simscaleai.tools.live.policy_menu import Policies

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

MAX_CHARACTERS = 300  # of an instruction
MAX_BYTES = 4096  # of a message; four bytes for each character, and the rest of the message
MAX_CONNECTIONS = 16
_WAITING = 8  # messages that the simulation has not taken yet
_PERIOD = 0.1  # s between two looks for a new state
_INVALID, _LATER = 1008, 1013  # close codes of RFC 6455


@dataclass(frozen=True)
class PanelState:
    """What the page shows.

    Attributes:
      policies, policy: names of the policies, and the index of the one that acts.
      title: environment and policy.
      instruction: of the present episode.
      listens: whether the task takes instructions.
      status: number of the episode, and successes so far.
      note: why the last message was not followed, or episodes are not counted; "" for nothing.
    """

    policies: tuple[str, ...] = ()
    policy: int = 0
    title: str = ""
    instruction: str = ""
    listens: bool = False
    status: str = ""
    note: str = ""


Message = str | int
"""An instruction, or the index of a policy."""


class Panel:
    """See the module docstring.

    Args:
      player: what the viewer shows.
      policies: the choice.

    Attributes:
      state: newest state.
    """

    def __init__(self, player: Player, policies: Policies) -> None:
        self._player, self._policies = player, policies
        self._messages: queue.Queue[Message] = queue.Queue(_WAITING)
        self._policy = 0
        self._refused = ""
        self._connected = 0
        self.state = PanelState()
        self.update()

    # in the thread of the simulation

    def update(self) -> None:
        """Follow the messages that have come, and note the state."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._follow(self._messages.get_nowait())
        self.state = PanelState(
            policies=tuple(map(printable, self._policies.names)),
            policy=self._policy,
            title=printable(self._policies.title),
            instruction=printable(self._player.instruction),
            listens=self._player.listens,
            status=self._player.status,
            note=printable(self._note()),
        )

    def _follow(self, message: Message) -> None:
        self._refused = ""
        try:
            if isinstance(message, str):
                self._player.say(message or None)
            elif message >= len(self._policies.names):
                self._refused = "There is no such policy."
            elif message != self._policy:
                # it may take seconds, in which nothing moves
                name = printable(self._policies.names[message])
                self.state = replace(self.state, note=f"Loading {name}")
                self._player.play(*self._policies.load(message))
                self._policy = message
        except UserError as error:  # the present policy goes on
            self._refused = str(error)

    def _note(self) -> str:
        if self._refused or self._player.counts:
            return self._refused
        return "This sentence does not name exactly one thing of this task, so episodes are not counted."

    # in the thread of the server

    async def handle(self, connection: ServerConnection) -> None:
        """Talk with one page until it is closed."""
        from websockets.exceptions import ConnectionClosed

        if self._connected >= MAX_CONNECTIONS:
            await connection.close(_LATER, f"this viewer takes {MAX_CONNECTIONS} pages")
            return
        self._connected += 1
        telling = asyncio.create_task(self._tell(connection))
        try:
            await self._listen(connection)
        except ConnectionClosed:  # pages come and go
            pass
        finally:
            self._connected -= 1
            telling.cancel()

    async def _tell(self, connection: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        sent: PanelState | None = None
        with contextlib.suppress(ConnectionClosed):
            while True:
                if self.state != sent:
                    sent = self.state
                    await connection.send(json.dumps(asdict(sent)))
                await asyncio.sleep(_PERIOD)

    async def _listen(self, connection: ServerConnection) -> None:
        async for text in connection:
            try:
                self._messages.put_nowait(read_message(text))
            except queue.Full:  # a policy is being loaded, or somebody floods
                continue
            except ValueError as error:
                await connection.close(_INVALID, str(error)[:120])
                return


def read_message(text: str | bytes) -> Message:
    """Return the instruction or index of a message; ValueError if it is none.

    An instruction comes back as one line of printable characters.
    """
    if not isinstance(text, str) or len(text.encode(errors="replace")) > MAX_BYTES:
        raise ValueError(f"messages are texts of at most {MAX_BYTES} bytes")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("messages are JSON") from None
    match message:
        case {"instruction": str(sentence)} if len(message) == 1:
            if len(sentence) > MAX_CHARACTERS:
                raise ValueError(f"an instruction has at most {MAX_CHARACTERS} characters")
            kept = "".join(c if c.isprintable() else " " for c in sentence)
            return " ".join(kept.split())
        case {"policy": int(index)} if len(message) == 1 and type(index) is int and index >= 0:
            return index
    raise ValueError("a message is an instruction or a policy")
