"""`viz-live --web` as its user meets it: a process, a page, a real browser, Ctrl-C."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import imageio.v3 as iio
import numpy as np
import pytest
from mujoco.studio import messages, sim
from numpy.typing import NDArray
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from simscaleai.sim import make_env
from simscaleai.tools.live.player import Player
from simscaleai.tools.live.web import _Controls

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SIZE = (500, 560)
PATIENCE = 60.0  # s for the browser, which draws without a GPU, beside other tests


@contextlib.contextmanager
def process(command: list[str], home: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that is ended whatever happens; its settings go into `home`."""
    environment = {**os.environ, "HOME": str(home), "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen(command, env=environment, text=True, **options)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(the process, its URL)"""
    command = [sys.executable, "-m", "simscaleai.tools.cli", "viz-live", "--web", "--port", "0"]
    home = tmp_path_factory.mktemp("home")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with process([*command, "--speed", "0.5"], home, **pipes) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        found = re.fullmatch(
            r"Open (http://127\.0\.0\.1:\d+/) in a browser; Ctrl-C stops\.\n", line
        )
        if not found:
            running.terminate()
            pytest.fail(line + running.stdout.read())
        yield running, found[1]


def status(url: str, **headers: str) -> int:
    """The HTTP status of a GET."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_page_comes_from_here_and_goes_to_its_own_alone(server: Any) -> None:
    _, url = server
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


def test_nothing_on_the_page_comes_from_elsewhere(server: Any) -> None:
    _, url = server
    for file in ("", "web_client.js"):
        with urllib.request.urlopen(url + file, timeout=10) as response:
            addresses = re.findall(r"https?://[\w.-]+", response.read().decode())
        assert set(addresses) <= {"https://www.apache.org"}, file  # the licence


def test_other_interfaces_are_closed(server: Any) -> None:
    _, url = server
    port = urlsplit(url).port
    assert port is not None
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", port)) != 0  # on Linux also this machine


class Page:
    """A tab of a headless browser, over the Chrome DevTools Protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._calls = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        answer = self._until("id", self._calls)
        assert "result" in answer, f"{method}: {answer}"
        return answer["result"]

    def _until(self, key: str, value: Any) -> dict[str, Any]:
        """The next message of which this is so."""
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get(key) == value:
                return message

    def open(self, url: str) -> None:
        self.call("Page.enable")
        self.call("Page.navigate", url=url)
        self._until("method", "Page.loadEventFired")

    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3)"""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return iio.imread(base64.b64decode(data))[..., :3]


@pytest.fixture
def page(server: Any, tmp_path: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    command = [CHROMIUM, "--headless=new", "--remote-debugging-port=0", "--no-first-run"]
    command += ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    command += [f"--window-size={SIZE[0]},{SIZE[1]}", f"--user-data-dir={tmp_path / 'profile'}"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # which root has not
    with process([*command, "about:blank"], tmp_path, stderr=subprocess.PIPE) as browser:
        assert browser.stderr is not None
        ports = (re.search(r"ws://127\.0\.0\.1:(\d+)/", line) for line in browser.stderr)
        port = next(found[1] for found in ports if found)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as response:
            tabs = [tab for tab in json.load(response) if tab["type"] == "page"]
        # what it says later is read and dropped: a full pipe would halt it
        threading.Thread(target=deque, args=(browser.stderr, 0), daemon=True).start()
        with connect(tabs[0]["webSocketDebuggerUrl"], max_size=None) as tab:
            shown = Page(tab)
            shown.open(server[1])
            yield shown


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


def test_a_browser_shows_the_robot_and_it_moves(page: Page, tmp_path: Path) -> None:
    limit = time.monotonic() + PATIENCE
    first = page.picture()
    while not robot_in(first):
        assert time.monotonic() < limit, f"no robot in {iio.imwrite(tmp_path / 'a.png', first)}"
        first = page.picture()
    moved = 0.0
    while moved < 0.01:
        assert time.monotonic() < limit, "the scene stands still"
        moved = (np.abs(middle(page.picture()) - middle(first)).max(-1) > 40).mean()


def test_ctrl_c_stops_it(server: Any) -> None:
    running, url = server
    with connect(url.replace("http", "ws") + "state?sid=late"):  # somebody watches
        running.send_signal(signal.SIGINT)
        assert running.wait(15) == 0
    assert re.fullmatch(r"\d+ of \d+ episodes succeeded\.\n", running.stdout.read())
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
