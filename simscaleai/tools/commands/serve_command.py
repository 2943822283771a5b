"""Serve a policy to other machines."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from simscaleai.errors import UserError
from simscaleai.tools.app import app, echo, examples


@app.command(
    "serve",
    epilog=examples(
        "simscale serve runs/a/final.pt",
        "simscale serve my_package.policies:Grasp --port 9000",
        "simscale serve runs/a --host 0.0.0.0 --max-connections 4",
    ),
)
def serve(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint, or the folder or name of a run; also module:function.",
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            help="Address to serve at; any other than 127.0.0.1 is reachable from other machines."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to serve at; 0 selects a free one.")
    ] = 8765,
    max_envs: Annotated[
        int, typer.Option(min=1, help="Largest number of robots or environments per connection.")
    ] = 128,
    max_connections: Annotated[
        int, typer.Option(min=1, help="Connections at once; further ones are refused.")
    ] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
) -> None:
    """Serve a policy over WebSockets, to robots and to `simscale eval ws://...` on other machines."""
    for package in ("websockets", "msgpack"):  # both belong to the extra `serve`
        if find_spec(package) is None:
            raise UserError(
                f"serve needs {package}; install it with: pip install 'simscaleai[serve]'."
            )
    from simscaleai.tools.listening import exposure, listen, url
    from simscaleai.tools.policy_server import PolicyServer, run_until_stopped

    # the policy first: a port that is open says that requests are answered
    server = PolicyServer(policy, device, max_envs, max_connections)
    with listen(host, port) as listening:
        if warning := exposure(listening):
            echo(warning, err=True)
        echo(f"Serving {server.title} at {url(listening, 'ws')}; Ctrl-C stops.")
        run_until_stopped(server, listening)
