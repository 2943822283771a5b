"""MuJoCo's browser viewer (`mujoco.studio`), served from this process.

The page, its WebAssembly and its fonts come with MuJoCo: nothing is fetched from the internet. The page
loads the model once and is sent states, so that all drawing happens in the browser.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import typer
from mujoco.studio import app, launch_web, messages, plugin, sim, ux, viewer_protocol

from simscaleai.tools.live.guard import exposure, guarded, listen, url
from simscaleai.tools.live.player import Player, play

START = 20.0  # s in which the server must be up


def serve(player: Player, title: str, host: str, port: int) -> None:
    """Serve the viewer at `host`:`port` until it is closed in the browser.

    Raises:
      UserError: this address cannot be listened at.
    """
    listening = listen(host, port)
    warning = exposure(listening)
    if warning:
        typer.echo(warning, err=True)
    # Its bars take room away from the picture, and its renderer, which is physical, finds our lamps dim.
    player.model.stat.extent *= 1.25
    player.model.vis.headlight.diffuse[:] = 0.7
    player.model.light_diffuse[:] *= 2
    # closed panels: what there is to see is the robot; its View menu opens them
    panels = _Panels(app.Config(show_options=False, show_inspector=False, show_toolbar=True))
    config = viewer_protocol.ViewerConfig(gfx="web", title=f"SimScaleAI | {title}")
    controls = _Controls(player)
    up = threading.Event()
    with (
        listening,
        guarded(listening, host, up),
        launch_web.launch(config, plugins=[panels, controls]) as handle,
    ):
        handle.set_model(player.model, data=player.data)
        controls.report()
        _wait(up, handle)
        typer.echo(f"Open {url(listening)} in a browser; Ctrl-C stops.")

        def draw() -> bool:
            panels.status = f"{title} | {player.status}"
            handle.sync()
            running: bool = handle.is_running()
            return running

        play(player, draw)


class _Panels(app.App):
    """MuJoCo's panels; their label of the speed follows --speed too."""

    @messages.handler(priority=messages.Priority.INTERNAL)
    def _on_step_control(self, event: messages.StepControlSnapshot) -> None:
        super()._on_step_control(event)
        scale = sim.StepControl()

        def off(index: int) -> float:
            ux.set_speed_index(scale, 0, index)
            return abs(float(scale.get_speed()) - event.speed)

        self.ux_state.speed_index = min(range(40), key=off)  # it has 31 speeds and repeats the last


class _Controls(plugin.SimPlugin):
    """Hands the viewer's buttons (pause, speed, reset) to the player."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def report(self) -> None:
        """Tell the viewer the settings as they are."""
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
        self.report()  # the last word, should two settings have crossed
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


def _wait(up: threading.Event, handle: Any) -> None:
    """Until the server is up; what stopped it is raised by `handle`."""
    limit = time.monotonic() + START
    while not up.wait(0.02):
        if not handle.is_running() or time.monotonic() > limit:
            raise RuntimeError("MuJoCo's browser viewer did not start.")
