"""A tab of a headless Chromium, over the Chrome DevTools Protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.sync.client import connect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
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


class Page:
    """One tab.

    Attributes:
      problems: what the page and the browser complained about on the console.
    """

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._calls = 0
        self.problems: list[str] = []

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
            method = message.get("method")
            if method == "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["level"] in ("error", "warning"):
                    self.problems.append(entry["text"])
            if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.problems.append(json.dumps(message["params"]))
            if message.get(key) == value:
                return message

    def open(self, url: str) -> None:
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        self._until("method", "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; of a promise, what it becomes."""
        options = {"awaitPromise": True, "returnByValue": True}
        found = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def picture(self, whole: bool = False) -> NDArray[np.uint8]:
        """(H, W, 3), of the window or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return iio.imread(base64.b64decode(data["data"]))[..., :3]


@contextlib.contextmanager
def chromium(folder: Path, size: tuple[int, int]) -> Iterator[Page]:
    """A tab of a browser with a profile in `folder`."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    command = [CHROMIUM, "--headless=new", "--remote-debugging-port=0", "--no-first-run"]
    command += ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    command += [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder / 'profile'}"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # which root has not
    with process([*command, "about:blank"], folder, stderr=subprocess.PIPE) as browser:
        assert browser.stderr is not None
        ports = (re.search(r"ws://127\.0\.0\.1:(\d+)/", line) for line in browser.stderr)
        port = next(found[1] for found in ports if found)
        # what it says later is read and dropped: a full pipe would halt it
        threading.Thread(target=deque, args=(browser.stderr, 0), daemon=True).start()
        with connect(_tab(port), max_size=None) as tab:
            yield Page(tab)


def _tab(port: str) -> str:
    """The address of the tab, which a busy machine opens only after a while."""
    limit = time.monotonic() + PATIENCE
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE) as response:
            tabs = [tab for tab in json.load(response) if tab["type"] == "page"]
        if tabs:
            return str(tabs[0]["webSocketDebuggerUrl"])
        assert time.monotonic() < limit, "the browser has no tab"
        time.sleep(0.1)


@pytest.fixture
def new_page(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open a browser with a window of a size."""
    with contextlib.ExitStack() as stack:
        yield lambda width, height: stack.enter_context(chromium(tmp_path, (width, height)))


@pytest.fixture(scope="session")
def running() -> Callable[..., Any]:
    """Run a program as a context manager: running(command, home, **options of Popen)."""
    return process
