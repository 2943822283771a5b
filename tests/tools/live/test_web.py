"""`viz-live --web` as its user meets it: a process, a page, a real browser, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import imageio.v3 as iio
import numpy as np
import pytest
from mujoco.studio import messages, sim
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from simscaleai.sim import make_env
from simscaleai.tools.live.player import Player
from simscaleai.tools.live.web import _Controls

SIZE = (500, 560)
PATIENCE = 60.0  # s for the browser, which draws without a GPU, beside other tests


@contextlib.contextmanager
def serve(running: Callable[..., Any], home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(the process, its URL)"""
    command = [sys.executable, "-m", "simscaleai.tools.cli", "viz-live", "--web", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command += ["--env-name", "pick_place_color", "--policy", "scripted", "--policy", "random"]
    with running([*command, "--speed", "0.5"], home, **pipes) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(
            r"Open (http://127\.0\.0\.1:\d+/) in a browser; Ctrl-C stops\.\n", line
        )
        if not found:
            process.terminate()
            pytest.fail(line + process.stdout.read())
        yield process, found[1]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, running: Callable[..., Any]) -> Iterator[str]:
    with serve(running, tmp_path_factory.mktemp("home")) as (_, address):
        yield address


def status(url: str, **headers: str) -> int:
    """The HTTP status of a GET."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_page_comes_from_here_and_goes_to_its_own_alone(url: str) -> None:
    state = url.replace("http", "ws") + "state?sid=test"
    assert status(url) == status(url + "web_client.wasm") == status(url + "model") == 200
    assert status(url, Host="evil.example") == 403
    assert status(url + "model", Origin="http://evil.example") == 403
    assert status(url + "drop") == 403
    with connect(state, origin=url.rstrip("/")) as own:
        kinds = {type(own.recv(timeout=10)) for _ in range(3)}
        assert kinds == {str, bytes}  # who is here, and states
    with pytest.raises(InvalidStatus, match="403"), connect(state, origin="http://evil.example"):
        pass
    with pytest.raises(InvalidStatus, match="403"), connect(url.replace("http", "ws") + "drop"):
        pass


def test_nothing_on_the_page_comes_from_elsewhere(url: str) -> None:
    for file in ("", "panel.js", "index.html", "web_client.js"):
        with urllib.request.urlopen(url + file, timeout=10) as response:
            addresses = re.findall(r"https?://[\w.-]+", response.read().decode())
        assert set(addresses) <= {"https://www.apache.org"}, file  # the licence


def state(talk: Any, **wanted: Any) -> dict[str, Any]:
    """The first state of the panel with these values."""
    limit = time.monotonic() + PATIENCE
    while True:
        found: dict[str, Any] = json.loads(talk.recv(timeout=PATIENCE))
        if all(found[key] == value for key, value in wanted.items()):
            return found
        assert time.monotonic() < limit, found


def test_a_person_tells_the_policy_what_to_do_and_changes_it(url: str) -> None:
    with connect(url.replace("http", "ws") + "talk", origin=url.rstrip("/")) as talk:
        first = state(talk)
        assert first["policies"] == ["scripted", "random"] and first["listens"]
        talk.send(json.dumps({"instruction": " pick up\tthe BLUE <b>cube</b> "}))
        answer = state(talk, instruction="pick up the BLUE <b>cube</b>")
        assert answer["note"] == ""
        talk.send(json.dumps({"instruction": "have a cube"}))
        assert "not counted" in state(talk, instruction="have a cube")["note"]
        talk.send(json.dumps({"policy": 1}))
        assert state(talk, policy=1)["title"] == "pick_place_color | random policy"
        talk.send(json.dumps({"policy": 2}))
        assert state(talk, note="There is no such policy.")["policy"] == 1
        talk.send(json.dumps({"policy": 0}))
        state(talk, policy=0)
        talk.send(
            json.dumps({"instruction": ""})
        )  # back to the task's own, from the next episode on
        state(talk, note="")


@pytest.mark.parametrize(
    "message",
    [
        b"{}",
        "{",
        "[]",
        '{"policy": true}',
        '{"policy": -1}',
        '{"instruction": 1}',
        '{"run": "x"}',
        json.dumps({"instruction": "x" * 301}),
        '{"a":' * 500,
        "x" * 5000,
    ],
)
def test_other_messages_end_their_connection_and_nothing_else(url: str, message: Any) -> None:
    with connect(url.replace("http", "ws") + "talk") as talk:
        talk.send(message)
        with pytest.raises(ConnectionClosedError):
            while True:
                talk.recv(timeout=PATIENCE)
    assert status(url) == 200


def test_the_panel_answers_to_its_own_page_alone(url: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(url.replace("http", "ws") + "talk", origin="http://evil.example")
    assert status(url + "talk") == 426
    with urllib.request.urlopen(url, timeout=10) as response:
        rules = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in rules and "frame-ancestors 'none'" in rules
        assert response.headers.get_all("Cross-Origin-Embedder-Policy") == ["require-corp"]


def test_other_interfaces_are_closed(url: str) -> None:
    port = urlsplit(url).port
    assert port is not None
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", port)) != 0  # on Linux also this machine


@pytest.fixture
def page(url: str, new_page: Callable[..., Any]) -> Any:
    shown = new_page(*SIZE)
    shown.open(url)
    return shown


def middle(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The scene without the viewer's bars."""
    height = picture.shape[0]
    return picture[height // 4 : 3 * height // 4].astype(np.int64)


def robot_in(picture: NDArray[np.uint8]) -> bool:
    """Whether there is a scene and in it the arm's light gray beside the table's brown."""
    scene = middle(picture)
    red, green, blue = np.moveaxis(scene, -1, 0)
    gray = (scene.min(-1) > 120) & (scene.max(-1) - scene.min(-1) < 30)
    brown = (red - blue > 30) & (red > green)
    return bool(scene.std() > 15 and gray.mean() > 0.02 and brown.mean() > 0.05)


@pytest.mark.slow
def test_a_browser_shows_the_robot_and_it_moves(page: Any, tmp_path: Path) -> None:
    limit = time.monotonic() + PATIENCE
    first = page.picture()
    while not robot_in(first):
        assert time.monotonic() < limit, f"no robot in {iio.imwrite(tmp_path / 'a.png', first)}"
        first = page.picture()
    moved = 0.0
    while moved < 0.01:
        assert time.monotonic() < limit, "the scene stands still"
        moved = (np.abs(middle(page.picture()) - middle(first)).max(-1) > 40).mean()


def test_ctrl_c_stops_it(running: Callable[..., Any], tmp_path: Path) -> None:
    with serve(running, tmp_path) as (process, url):
        with connect(url.replace("http", "ws") + "state?sid=late"):  # somebody watches
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0
        assert process.stdout is not None
        printed = process.stdout.read()
    assert re.fullmatch(r"\d+ of \d+ episodes succeeded\.\n", printed)
    with socket.create_server(("127.0.0.1", urlsplit(url).port)):
        pass  # the port is free


def test_the_viewer_s_buttons_reach_the_player() -> None:
    env: Any = make_env("reach", cameras=[])
    player = Player(env, env.task.expert())
    controls = _Controls(player)
    sent: list[Any] = []
    controls.handle = SimpleNamespace(send_to_viewer=sent.append)
    paused = sim.PauseState.NORMAL_PAUSED
    controls.on_settings(messages.StepControlSnapshot(pause_state=paused, speed=25.0))
    assert player.paused and player.speed == 0.25
    assert sent == [messages.StepControlSnapshot(pause_state=paused, speed=25.0)]
    time_before = env.data.time
    controls.on_step(messages.SingleStepEvent())
    assert env.data.time > time_before
    controls.on_pause(messages.RequestPauseEvent(pause_state=sim.PauseState.UNPAUSED))
    assert not player.paused
    assert controls.on_reset(messages.ResetEvent())  # and nobody else resets the copy
    assert player.status.startswith("Episode 2")
