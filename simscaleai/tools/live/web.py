"""MuJoCo's browser viewer (`mujoco.studio`), served from this process.

The page, its WebAssembly and its fonts are part of MuJoCo: nothing is fetched from the internet. The page
loads the model once and receives states, so that the browser does all rendering.
"""

from __future__ import annotations

import threading
import time

import mujoco
import typer
from mujoco.studio import app, launch_web, messages, plugin, sim, ux, viewer_handle, viewer_protocol

from simscaleai.tools.live.guard import exposure, guarded, listen, url
from simscaleai.tools.live.player import Player, play
from simscaleai.tools.live.policy_menu import Policies
from simscaleai.tools.live.talk import MAX_BYTES, Panel

START = 20.0  # s within which the server must be running


def serve(player: Player, policies: Policies, host: str, port: int) -> None:
    """Serve the viewer, and a panel for instructions and the choice of policies, until the viewer is closed.

    Raises:
      UserError: this address cannot be used.
    """
    listening = listen(host, port)
    warning = exposure(listening)
    if warning:
        typer.echo(warning, err=True)
    _suit(player.model)
    # closed panels leave the robot visible; the View menu opens them
    panels = _Panels(app.Config(show_options=False, show_inspector=False, show_toolbar=True))
    config = viewer_protocol.ViewerConfig(gfx="web", title="SimScaleAI")
    controls = _Controls(player)
    panel = Panel(player, policies)
    up = threading.Event()
    with (
        listening,
        guarded(listening, host, up, panel.handle, MAX_BYTES),
        launch_web.launch(config, plugins=[panels, controls]) as handle,
    ):
        handle.set_model(player.model, data=player.data)
        controls.report()
        _wait(up, handle)
        typer.echo(f"Open {url(listening)} in a browser; Ctrl-C stops.")

        def draw() -> bool:
            shown = player.model
            panel.update()
            if player.model is not shown:  # a policy of another task
                _suit(player.model)
                handle.set_model(player.model, data=player.data)
            panels.status = f"{policies.title} | {player.status}"
            handle.sync()
            running: bool = handle.is_running()
            return running

        play(player, draw)


def _suit(model: mujoco.MjModel) -> None:
    """Change a model to look right in this viewer."""
    # Its toolbars hide a part of the scene, and its physically based renderer draws our lights too dark.
    model.stat.extent *= 1.25
    model.vis.headlight.diffuse[:] = 0.7
    model.light_diffuse[:] *= 2


class _Panels(app.App):
    """MuJoCo's panels, with a label that shows the speed of --speed."""

    @messages.handler(priority=messages.Priority.INTERNAL)
    def _on_step_control(self, event: messages.StepControlSnapshot) -> None:
        super()._on_step_control(event)
        scale = sim.StepControl()

        def off(index: int) -> float:
            ux.set_speed_index(scale, 0, index)
            return abs(float(scale.get_speed()) - event.speed)

        # it has 31 speeds, and repeats the last for larger indices
        self.ux_state.speed_index = min(range(40), key=off)


class _Controls(plugin.SimPlugin):
    """Passes the viewer's buttons (pause, speed, reset) to the player."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def report(self) -> None:
        """Send the current settings to the viewer."""
        states = sim.PauseState
        self.handle.send_to_viewer(
            messages.StepControlSnapshot(
                pause_state=states.NORMAL_PAUSED if self._player.paused else states.UNPAUSED,
                speed=100.0 * self._player.speed,
            )
        )

    @messages.handler
    def on_settings(self, event: messages.StepControlSnapshot) -> bool:
        self._player.paused = event.pause_state != sim.PauseState.UNPAUSED
        self._player.speed = event.speed / 100.0
        self.report()  # the viewer may have sent other settings meanwhile
        return True

    @messages.handler
    def on_pause(self, event: messages.RequestPauseEvent) -> bool:
        self._player.paused = event.pause_state != sim.PauseState.UNPAUSED
        self.report()
        return True

    @messages.handler
    def on_step(self, event: messages.SingleStepEvent) -> bool:
        self._player.advance(self._player.env.config.control_dt)
        return True

    @messages.handler
    def on_reset(self, event: messages.ResetEvent) -> bool:
        self._player.begin()
        return True


def _wait(up: threading.Event, handle: viewer_handle.ViewerHandle) -> None:
    """Wait until the server is running; `handle` raises the error that stopped it."""
    limit = time.monotonic() + START
    while not up.wait(0.02):
        if not handle.is_running() or time.monotonic() > limit:
            raise RuntimeError("MuJoCo's browser viewer did not start.")
