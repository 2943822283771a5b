"""Sockets that only this machine reaches, unless the user wants another address."""

from __future__ import annotations

import ipaddress
import socket

from simscaleai.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens only at `host`; port 0 is any free one. UserError if it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"Cannot listen at {host!r} port {port}: {error.strerror}; give another --host, or another"
            " --port (0 is any free one)."
        ) from None


def url(listening: socket.socket, scheme: str = "http") -> str:
    """Return the URL for a client on this machine."""
    address, port = listening.getsockname()[:2]
    if ipaddress.ip_address(address).is_unspecified:  # 0.0.0.0 or ::, all interfaces
        address = "::1" if ":" in address else "127.0.0.1"
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}:{port}/"


def exposure(listening: socket.socket) -> str:
    """Return a warning if other machines can reach the socket; "" if only this one can."""
    address, port = listening.getsockname()[:2]
    if ipaddress.ip_address(address).is_loopback:
        return ""
    return (
        f"Warning: there is no password; anyone who reaches {address} port {port} can see and drive this."
        f" The default --host with `ssh -L {port}:127.0.0.1:{port} MACHINE` needs no open port."
    )
