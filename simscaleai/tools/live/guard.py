"""Access control for the browser viewer.

By default, MuJoCo's viewer listens on every interface and answers all requests: from every machine that
reaches the port, and from any web page that is open in a browser on this machine (a WebSocket is not
bound to the origin of its page, and a page can give 127.0.0.1 a name of its own). There is no setting for
this. Therefore `guarded` replaces three parts of the viewer while it runs: the socket, which is bound to
one address; the handler of requests, which rejects uploads of models and requests that do not come from
the viewer's own page; and the printed banner.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mujoco.studio import web_viewer
from mujoco.studio.web import web_server

from simscaleai.tools.listening import exposure, listen, url

__all__ = ["exposure", "guarded", "listen", "refusal", "url"]

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response


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
def guarded(listening: socket.socket, host: str, up: threading.Event) -> Iterator[None]:
    """Let the viewer serve on `listening` only, guarded and without output; set `up` once it does."""
    original = web_server.serve

    # the arguments are those of `websockets.serve`; the viewer's `process_request` serves its files
    def serve(
        handler: object,
        *,
        process_request: Callable[[ServerConnection, Request], Response | None],
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
            return process_request(connection, request)

        up.set()
        return original(handler, process_request=check, **options)

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
