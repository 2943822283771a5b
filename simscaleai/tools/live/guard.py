"""Access control for the browser viewer.

By default, MuJoCo's viewer listens on every interface and answers all requests: from every machine that
reaches the port, and from any web page that is open in a browser on this machine (a WebSocket is not
bound to the origin of its page, and a page can give 127.0.0.1 a name of its own). There is no setting for
this. Therefore `guarded` replaces three parts of the viewer while it runs: the socket, which is bound to
one address; the handlers of requests and connections, which reject uploads of models and requests that do not
come from the viewer's own page, and serve our panel at the root; and the printed banner.
"""

from __future__ import annotations

import http
import ipaddress
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mujoco.studio import web_viewer
from mujoco.studio.web import web_server

from simscaleai.tools.listening import exposure, listen, url

__all__ = ["exposure", "guarded", "listen", "refusal", "url"]

TALK = "/talk"  # of the panel's WebSocket
# Everything from this server; the script of the page is a file of its own, so that none in it would run.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; frame-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "/": ("panel.html", "text/html; charset=utf-8"),
    "/panel.js": ("panel.js", "text/javascript; charset=utf-8"),
}
_MAX_BYTES = 2**20  # of a message to the viewer: its input and camera, as models are not uploaded

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

Handler = Callable[["ServerConnection"], Awaitable[None]]
"""Talks with a client until it goes."""


def refusal(headers: Mapping[str, str], host: str) -> str | None:
    """Return why a request with these headers is rejected; None if it is accepted.

    `Host` must be an address, localhost or the name that the user gave: any other name may belong to a
    foreign page that points it to this machine (DNS rebinding). `Origin`, which browsers send, must be the
    viewer's own page.
    """
    asked = headers.get("Host", "")
    name = urlsplit(f"//{asked}").hostname or ""
    if name not in ("localhost", host.lower()) and not _is_address(name):
        return f"This viewer does not go by the name {name!r}; give --host {name} to allow it.\n"
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != asked:
        return "This viewer answers to its own page alone.\n"
    return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@contextmanager
def guarded(
    listening: socket.socket, host: str, up: threading.Event, talk: Handler, max_bytes: int
) -> Iterator[None]:
    """Let the viewer serve on `listening` only, guarded and without output; set `up` once it does.

    Args:
      listening: the socket.
      host: what the user calls this machine.
      up: set once the server runs.
      talk: handler of the panel's connections.
      max_bytes: size of the largest message to it.
    """
    original = web_server.serve

    # The arguments are those of `websockets.serve`; the viewer's `process_request` serves its files, and its
    # `process_response` adds headers.
    def serve(
        handler: Handler,
        *,
        process_request: Callable[[ServerConnection, Request], Response | None],
        process_response: Callable[[ServerConnection, Request, Response], Response | None],
        **options: Any,
    ) -> object:
        if options["sock"] is not listening:  # another version of MuJoCo makes its socket elsewhere
            raise RuntimeError("MuJoCo's browser viewer would listen elsewhere.")

        def check(connection: ServerConnection, request: Request) -> Response | None:
            why = refusal(request.headers, host)
            if why is None and request.path.split("?")[0] == "/drop":
                why = "This viewer shows one model; it takes no other.\n"
            if why is not None:
                return connection.respond(403, why)
            if request.path in _FILES:
                return _file(connection, *_FILES[request.path])
            if request.path == TALK:
                return _upgrade(connection, request, max_bytes)
            return process_request(connection, request)

        def complete(
            connection: ServerConnection, request: Request, response: Response
        ) -> Response | None:
            # the viewer's files have these headers already, and a header that is there twice is void
            upgrades = response.status_code == http.HTTPStatus.SWITCHING_PROTOCOLS
            return process_response(connection, request, response) if upgrades else None

        async def handle(connection: ServerConnection) -> None:
            path = connection.request.path if connection.request is not None else ""
            await (talk if path == TALK else handler)(connection)

        up.set()
        options["max_size"] = _MAX_BYTES
        return original(handle, process_request=check, process_response=complete, **options)

    replaced: list[tuple[ModuleType, str, Callable[..., object]]] = [
        (web_server, "bind_public_socket", lambda host, port: listening),
        (web_server, "serve", serve),
        # `print` in this module only: the banner would name another address
        (web_viewer, "print", lambda *words, **options: None),
    ]
    logger = logging.getLogger("WebServer")
    level = logger.level
    logger.setLevel(logging.WARNING)
    before = [vars(module).get(name) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield
    finally:
        logger.setLevel(level)
        for (module, name, _), own in zip(replaced, before, strict=True):
            if own is None:  # `print` was the builtin
                delattr(module, name)
            else:
                setattr(module, name, own)


def _file(connection: ServerConnection, name: str, kind: str) -> Response:
    """Answer with a file of the panel."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    response = connection.respond(http.HTTPStatus.OK, text)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = kind
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    # the viewer in the frame shares memory between threads, which takes these on every page
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
    return response


def _upgrade(connection: ServerConnection, request: Request, max_bytes: int) -> Response | None:
    """Let a WebSocket of the panel be opened, for messages of at most `max_bytes`."""
    if "websocket" not in request.headers.get("Upgrade", "").lower():
        return connection.respond(http.HTTPStatus.UPGRADE_REQUIRED, "This is a WebSocket.\n")
    connection.protocol.max_message_size = max_bytes
    return None
