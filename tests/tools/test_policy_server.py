"""A served policy acts as in this process, and no client harms it or the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from simscaleai.errors import UserError
from simscaleai.evaluation.compare import CompareSettings, compare_policies
from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.rollout import policy_client
from simscaleai.rollout.policy_client import PolicyClient, PolicyServerError, pack, unpack
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.sim import make_env
from simscaleai.storage.checkpoint import save_checkpoint
from simscaleai.tools import policy_server
from simscaleai.tools.listening import listen, url
from simscaleai.tools.policy_server import PolicyServer


@contextlib.contextmanager
def serving(server: PolicyServer) -> Iterator[str]:
    """The address of a server that runs in a thread."""
    stop, loop = asyncio.Event(), asyncio.new_event_loop()
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(
            target=loop.run_until_complete, args=(server.serve(listening, stop),)
        )
        thread.start()
        try:
            yield url(listening, "ws")
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(20)
            loop.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy that draws noise and executes 3 actions of each chunk."""
    torch.manual_seed(0)
    contract = make_env("reach", cameras=[], dt=0.005, max_episode_steps=10).contract
    spec = ObsSpec(contract.obs_shapes, contract.obs_dtypes)
    statistics = {
        "state": Statistics.of(torch.randn(50, 20)),
        "actions": Statistics.of(torch.rand(9, 4)),
    }
    small = {"embed_dim": 16, "num_heads": 2, "num_layers": 1, "num_inference_steps": 2}
    model = create_model("diffusion", state_dim=20, action_horizon=4, n_action_steps=3, **small)
    policy = ModelPolicy(model, spec, Normalizer(statistics), contract)
    path = tmp_path_factory.mktemp("runs") / "a" / "final.pt"
    save_checkpoint(path, {"policy": policy.description(), "weights": dict(policy.state_dict())})
    return path


@pytest.fixture(scope="module")
def address(checkpoint: Path) -> Iterator[str]:
    with serving(PolicyServer(str(checkpoint), "cpu", max_envs=8, max_connections=20)) as found:
        yield found


@cache
def shapes() -> dict[str, tuple[int, ...]]:
    return make_env("reach", cameras=[]).contract.obs_shapes


def observations(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal((n, *shape)) for key, shape in shapes().items()}


def reset(policy: Any, n: int, first: int) -> None:
    policy.reset(np.ones(n, dtype=bool), list(range(first, first + n)), [""] * n)


def test_actions_are_those_of_this_process(address: str, checkpoint: Path) -> None:
    local = [ModelPolicy.from_checkpoint(checkpoint, "cpu") for _ in range(2)]
    with PolicyClient(address) as first, PolicyClient(address) as second:
        reset(local[0], 2, 5), reset(first, 2, 5)
        reset(local[1], 3, 90), reset(second, 3, 90)
        # in turn: each connection has action queues of its own
        for step in range(5):
            for mine, served, n in zip(local, (first, second), (2, 3), strict=True):
                obs = observations(n, step)
                np.testing.assert_array_equal(served.act(obs), mine.act(obs))
        assert first.about["policy"].endswith("a")


def test_an_evaluation_through_the_server_is_the_same(address: str, checkpoint: Path) -> None:
    settings = SourceEvaluation(n_episodes=5, num_envs=2, device="cpu", show_progress=False)
    served, local = (evaluate_source(name, settings) for name in (address, str(checkpoint)))
    assert served["episodes"] == local["episodes"]
    for key in ("checkpoint_sha256", "env_name", "trained_on"):
        assert served[key] == local[key]
    # a server has no folder
    assert served["checkpoint"] == address and served["output_path"] is None


def test_settings_of_the_environment_hold_for_a_served_policy_too(
    address: str, tmp_path: Path
) -> None:
    source = find_policy_source(address, env_kwargs={"max_episode_steps": 7})
    assert source.config.max_episode_steps == 7
    settings = CompareSettings(
        max_episodes=4,
        num_envs=4,
        show_progress=False,
        env_kwargs={"max_episode_steps": 7},
        output_dir=str(tmp_path / "compared"),
    )
    report = compare_policies([address, "scripted", "random"], settings)
    assert [found.baseline for found in report.comparisons] == [address] * 2
    assert [found.n_episodes for found in report.comparisons] == [4, 4]


def test_a_function_is_served_as_well(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "served_functions.py").write_text(
        "import numpy as np\n"
        "def still(obs):\n    return np.zeros((len(obs['x']), 2))\n"
        "class Counter:\n"
        "    def reset(self, mask, seeds, instructions=None): self.n = 0\n"
        "    def act(self, obs):\n        self.n += 1\n        return np.full((1, 1), self.n)\n"
        "counter = Counter()\n"
    )
    monkeypatch.chdir(tmp_path)
    with serving(PolicyServer("served_functions:still")) as found, PolicyClient(found) as client:
        assert client.act({"x": np.ones((3, 1))}).tolist() == [[0, 0]] * 3
    with (
        serving(PolicyServer("served_functions:Counter")) as found,
        PolicyClient(found) as first,
        PolicyClient(found) as second,
    ):
        reset(first, 1, 0), reset(second, 1, 0)
        acted = [c.act({"x": np.ones((1, 1))}).item() for c in (first, second, first)]
        assert acted == [1, 1, 2]
    with pytest.raises(UserError, match="is one object, whose state all connections would share"):
        PolicyServer("served_functions:counter")


@pytest.mark.parametrize("name", ["scripted", "random", "ws://127.0.0.1:1"])
def test_what_cannot_be_served(name: str) -> None:
    with pytest.raises(UserError, match="cannot be served"):
        PolicyServer(name)


# mistakes of clients


def test_a_mistake_is_told_and_may_be_mended(address: str) -> None:
    with PolicyClient(address) as client:
        with pytest.raises(PolicyServerError, match="'ee_pos' is missing"):
            client.act({"joint_pos": np.zeros((1, 7))})
        with pytest.raises(PolicyServerError, match="1 to 8 envs at once, not for 9"):
            client.act(observations(9))
        bad = observations(1)
        bad["ee_pos"][0, 1] = np.nan
        with pytest.raises(PolicyServerError, match="not finite"):
            client.act(bad)
        assert client.act(observations(1)).shape == (1, 4)


def frame(**values: Any) -> bytes:
    return pack(
        {"type": "reset", "mask": np.ones(1, bool), "seeds": [0], "instructions": None} | values
    )


def array(dtype: Any, shape: Any, data: Any) -> bytes:
    """A message with an array that says this of itself."""
    content = msgpack.ExtType(1, msgpack.packb([dtype, shape, data]))
    return msgpack.packb({"type": "act", "obs": {"ee_pos": content}})


MALFORMED = {
    "empty": b"",
    "noise": bytes(range(256)),
    "no map": msgpack.packb([1, 2]),
    "no type": msgpack.packb({"obs": {}}),
    "unknown type": msgpack.packb({"type": "exec"}),
    "deep": b"\x91" * 5000 + b"\xc0",
    "a list that claims a billion": b"\xdd\x3b\x9a\xca\x00",
    "bytes that claim 4 GB": b"\xc6\xff\xff\xff\xff",
    "another extension": msgpack.packb({"type": "act", "obs": {"a": msgpack.ExtType(5, b"x")}}),
    "a pickle": msgpack.packb({"type": "act", "obs": {"a": b"\x80\x04cos\nsystem\n"}}),
    "objects": array("|O", [1], b"\0" * 8),
    "too few bytes": array("<f8", [1, 3], b"\0" * 8),
    "a product that wraps around": array("<f8", [2**32, 2**32], b""),
    "a negative size": array("<f8", [-1, 3], b""),
    "too many axes": array("<f8", [1] * 9, b"\0" * 8),
    "no axis": array("<f8", [], b"\0" * 8),
    "a mask of numbers": frame(mask=np.ones(1)),
    "a negative seed": frame(seeds=[-1]),
    "a seed that is a flag": frame(seeds=[True]),
    "two seeds": frame(seeds=[0, 1]),
    "an instruction for each letter": frame(instructions="a"),
    "a long instruction": frame(instructions=["a" * 2000]),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_end_their_connection_alone(address: str, data: bytes) -> None:
    with PolicyClient(address) as other, connect(address) as attacker:
        attacker.recv()
        attacker.send(data)
        with pytest.raises(ConnectionClosed) as closed:
            attacker.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        assert other.act(observations(1)).shape == (1, 4)


def ends(socket: ClientConnection) -> int:
    """The code with which the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            socket.recv(timeout=20)
    assert closed.value.rcvd is not None
    return int(closed.value.rcvd.code)


def test_large_and_textual_messages_are_refused(address: str) -> None:
    # 20 numbers for 8 envs, and 256 KiB
    for data, code in ((b"\0" * 300_000, 1009), ("text", 1003)):
        with connect(address) as attacker:
            attacker.recv()
            attacker.send(data)
            assert ends(attacker) == code
    # in pieces, as well
    with connect(address) as attacker:
        attacker.recv()
        with contextlib.suppress(ConnectionClosed, OSError):
            attacker.send(b"\0" * 50_000 for _ in range(20))
        assert ends(attacker) == 1009


def test_web_pages_are_refused(address: str) -> None:
    with pytest.raises(InvalidStatus, match="403"), connect(address, origin="http://127.0.0.1"):
        pass


def test_many_connections_are_served_or_refused(address: str) -> None:
    """200 at the same time: 20 fit, the others are told so, and there is room afterwards."""
    refused = 0

    async def one(done: asyncio.Event) -> str:
        nonlocal refused
        try:
            async with connect_async(address, open_timeout=60, compression=None) as socket:
                await socket.recv()
                await socket.send(pack({"type": "act", "obs": observations(1)}))
                answer = unpack(await socket.recv(decode=False))
                await done.wait()  # all of them are there at once
                return str(answer["type"])
        except (InvalidStatus, ConnectionClosed) as error:
            refused += 1
            if refused == 180:
                done.set()
            return "full" if "503" in str(error) or "20 connections" in str(error) else str(error)

    async def many() -> list[str]:
        done = asyncio.Event()
        async with asyncio.timeout(120):
            return await asyncio.gather(*(one(done) for _ in range(200)))

    ended = asyncio.run(many())
    assert ended.count("actions") == 20 and ended.count("full") == 180, set(ended)
    with PolicyClient(address) as client:
        assert client.act(observations(1)).shape == (1, 4)


def rss() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat(address: str) -> None:
    def attack() -> None:
        for data in MALFORMED.values():
            with connect(address) as attacker:
                attacker.recv()
                attacker.send(data)
                ends(attacker)

    attack()
    before = rss()
    for _ in range(3):
        attack()
    with PolicyClient(address) as client:
        for step in range(50):
            reset(client, 8, step)
            client.act(observations(8, step))
    assert rss() - before < 20e6


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_a_client_that_does_not_read_is_disconnected(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_server, "SEND_SECONDS", 0.3)
    server = PolicyServer(str(checkpoint), "cpu")
    # larger than what the kernel holds for a client that does not read
    monkeypatch.setattr(server, "_answer", lambda policy, data: b"\0" * 20_000_000)
    with serving(server) as found, PolicyClient(found):
        host, port = found.removeprefix("ws://").strip("/").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(HANDSHAKE)
            slow.recv(1)
            while server._connected < 2:
                time.sleep(0.02)
            slow.sendall(
                b"\x82\x82" + bytes(4) + b"go"
            )  # one masked frame; the answer is never read
            limit = time.monotonic() + 30
            while server._connected > 1:
                assert time.monotonic() < limit, "it is still connected"
                time.sleep(0.05)


# the client


def test_the_client_needs_none_of_the_package(tmp_path: Path, address: str) -> None:
    source = Path(policy_client.__file__).read_text()
    assert "simscaleai." not in source
    (tmp_path / "policy_client.py").write_text(source)
    script = (
        "import sys; sys.modules['simscaleai'] = sys.modules['torch'] = None\n"
        "import numpy as np\nfrom policy_client import PolicyClient\n"
        f"with PolicyClient('{address}') as policy:\n"
        "    policy.reset([True], [3], ['reach'])\n"
        "    shapes = {key: shape for key, (shape, _) in policy.about['obs'].items()}\n"
        "    print(policy.act({key: np.zeros((1, *s)) for key, s in shapes.items()}).shape)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout == "(1, 4)\n", ran.stderr


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f4", "f8", ">f4"])
def test_arrays_come_back_as_they_were(dtype: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype).T  # not in C order
    sent = {"type": "act", "obs": {"a": values, "b": np.zeros((0, 3))}}
    found = unpack(pack(sent))["obs"]
    np.testing.assert_array_equal(found["a"], values)
    assert found["a"].dtype == values.dtype.newbyteorder("<") and found["b"].shape == (0, 3)
    found["a"][0] = 1  # writable
    with pytest.raises(TypeError, match="cannot be sent"):
        pack({"type": "act", "obs": {"a": np.array([object()])}})


def test_no_server_is_one_sentence(refused: Callable[..., str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = SourceEvaluation(n_episodes=1, show_progress=False)
    refused(lambda: evaluate_source(f"ws://127.0.0.1:{port}", settings), "cannot be reached")
    refused(lambda: evaluate_source("ws://", settings), "cannot be reached")


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c(checkpoint: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "simscaleai.tools.cli",
        "serve",
        str(checkpoint),
        "--port",
        "0",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("Serving ") and line.endswith("; Ctrl-C stops.\n")
        with PolicyClient(line.split()[3].rstrip(";")) as client:
            assert client.act(observations(1)).shape == (1, 4)
            server.send_signal(signal.SIGINT)
            assert server.wait(90) == 0
