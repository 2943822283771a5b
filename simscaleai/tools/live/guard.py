"""Who may talk to the browser viewer.

As it comes, MuJoCo's viewer listens on every interface and answers everybody: whoever reaches the port, and
any web page that is open in a browser on this machine (a WebSocket is not bound to its page's origin, and a
page can give 127.0.0.1 a name of its own). It has no settings for this. So `guarded` puts three of its parts
in our hands while it runs: the socket, which is bound to one address; the handling of requests, which turns
away those that do not come from the viewer's own page, and uploads of models; and what it prints.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from mujoco.studio import web_viewer
from mujoco.studio.web import web_server

from simscaleai.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `host` alone; UserError if it cannot. Port 0 is any free one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"Cannot listen at {host!r} port {port}: {error.strerror}; give another --host, or another"
            " --port (0 is any free one)."
        ) from None


def url(listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    address, port = listening.getsockname()[:2]
    if ipaddress.ip_address(address).is_unspecified:
        address = "::1" if ":" in address else "127.0.0.1"
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


def exposure(listening: socket.socket) -> str:
    """What to know before others can reach it; "" if only this machine can."""
    address, port = listening.getsockname()[:2]
    if ipaddress.ip_address(address).is_loopback:
        return ""
    return (
        f"Warning: there is no password; anyone who reaches {address} port {port} can see and drive this."
        f" The default --host with `ssh -L {port}:127.0.0.1:{port} MACHINE` needs no open port."
    )


def refusal(headers: Any, host: str) -> str | None:
    """Why a request with these headers is turned away; None if it is not.

    `Host` must be an address, localhost or what the user gave: another name is one that a stranger pointed
    here. `Origin`, which browsers send along, must be the viewer's own page.
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
    """Let the viewer serve on `listening` alone, guarded and in silence; sets `up` once it does."""
    original = web_server.serve

    def serve(handler: Any, *, process_request: Callable[..., Any], **options: Any) -> Any:
        if options["sock"] is not listening:
            raise RuntimeError("MuJoCo's browser viewer would listen elsewhere.")

        def check(connection: Any, request: Any) -> Any:
            why = refusal(request.headers, host)
            if why is None and request.path.split("?")[0] == "/drop":
                why = "This viewer shows one model; it takes no other.\n"
            return connection.respond(403, why) if why else process_request(connection, request)

        up.set()
        return original(handler, process_request=check, **options)

    replaced: list[tuple[Any, str, Any]] = [
        (web_server, "bind_public_socket", lambda host, port: listening),
        (web_server, "serve", serve),
        (web_viewer, "print", lambda *words, **options: None),  # the banner names another address
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
        for (module, name, _), value in zip(replaced, before, strict=True):
            if value is None:
                delattr(module, name)
            else:
                setattr(module, name, value)
