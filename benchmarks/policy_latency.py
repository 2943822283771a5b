"""How long a policy takes to act: for one robot, and for 64 simulations in step.

    python benchmarks/policy_latency.py [--threads 1] [--served] [--only "flow, 1 step"]

Weights are random: time does not depend on them. Of policies that execute several actions of a plan, most
steps cost next to nothing and one in a few costs a plan: p50 is of all steps, p99 shows the plans, and the
mean is what a control loop pays. With --served, the policies run behind `simscale serve` on this machine, and
the client's round trip is measured: the difference from the table without it is what the server costs.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.policy import Policy
from simscaleai.rollout.policy_client import PolicyClient
from simscaleai.storage.checkpoint import save_checkpoint
from simscaleai.tools.listening import listen, url
from simscaleai.tools.policy_server import PolicyServer

STATE_DIM, IMAGE_SIZE = 28, 64
CHUNKS = {"action_horizon": 8, "n_action_steps": 4}
ONE_STEP = {"num_inference_steps": 1, "objective": "distilled"}
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("bc", "bc", {}),
    ("bc, 8 actions", "bc", CHUNKS),
    ("act", "act", {}),
    ("diffusion, DDIM 10", "diffusion", {"num_inference_steps": 10}),
    ("diffusion, DDPM 100", "diffusion", {"sampler": "ddpm"}),
    ("flow, 5 steps", "flow", {"num_inference_steps": 5}),
    ("flow, 1 step, transformer", "flow", ONE_STEP),
    # that of configs/train/flow_one_step_200.yaml
    ("flow, 1 step", "flow", {**ONE_STEP, "denoiser": "mlp", "n_obs_steps": 1}),
    ("vla:small", "vla:small", {}),
    (
        "vla:small, flow 5",
        "vla:small",
        {"action_head_type": "flow", "action_horizon": 8, "n_action_steps": 4},
    ),
)


def make_policy(name: str, kwargs: dict[str, Any]) -> tuple[ModelPolicy, bool]:
    """The policy, and whether it looks at an image."""
    image = name.startswith("vla")
    model = create_model(name, state_dim=STATE_DIM, **kwargs)
    shapes: dict[str, tuple[int, ...]] = {"state": (STATE_DIM,)}
    dtypes = {"state": "float32"}
    if image:
        shapes["image"], dtypes["image"] = (IMAGE_SIZE, IMAGE_SIZE, 3), "uint8"
    statistics = {"state": Statistics.of(torch.randn(100, STATE_DIM))}
    policy = ModelPolicy(model, ObsSpec(shapes, dtypes), Normalizer(statistics)).eval()
    return policy, image


@contextmanager
def served(policy: ModelPolicy) -> Iterator[PolicyClient]:
    """The same policy behind a server in a thread of this process."""
    stop, loop = asyncio.Event(), asyncio.new_event_loop()
    with TemporaryDirectory() as folder, listen("127.0.0.1", 0) as listening:
        path = Path(folder) / "final.pt"
        payload = {"policy": policy.description(), "weights": dict(policy.state_dict())}
        save_checkpoint(path, payload)
        server = PolicyServer(str(path), "cpu")
        thread = threading.Thread(
            target=loop.run_until_complete, args=(server.serve(listening, stop),)
        )
        thread.start()
        try:
            with PolicyClient(url(listening, "ws"), timeout=600) as client:
                yield client
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()


def seconds(policy: Policy, image: bool, n: int, steps: int) -> np.ndarray:
    """Of each of `steps` calls for n rows, after a warm-up."""
    rng = np.random.default_rng(0)
    obs: dict[str, Any] = {"state": rng.standard_normal((n, STATE_DIM), dtype=np.float32)}
    if image:
        obs["image"] = rng.integers(0, 256, (n, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    policy.reset(np.ones(n, dtype=bool), list(range(n)), ["reach the red sphere"] * n)
    for _ in range(8):
        policy.act(obs)
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        policy.act(obs)
        taken.append(time.perf_counter() - start)
    return np.array(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument(
        "--steps", type=int, default=200, help="calls for one row; a quarter for 64"
    )
    titles = [title for title, _, _ in CASES]
    parser.add_argument("--only", nargs="+", choices=titles, default=titles, metavar="POLICY")
    parser.add_argument("--served", action="store_true", help="through a server on this machine")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Table(
        title=f"milliseconds per action{', served' if args.served else ''}, {args.threads} threads,"
        f" PyTorch {torch.__version__}"
    )
    for column in ("policy", "n=1 p50", "n=1 p99", "n=1 mean", "n=64 step p50", "n=64 step mean"):
        table.add_column(column)
    for title, name, kwargs in (case for case in CASES if case[0] in args.only):
        policy, image = make_policy(name, kwargs)
        with served(policy) if args.served else nullcontext(policy) as actor:
            one = 1e3 * seconds(actor, image, 1, args.steps)
            many = 1e3 * seconds(actor, image, 64, max(args.steps // 4, 8))
        values = (np.median(one), np.percentile(one, 99), one.mean(), np.median(many), many.mean())
        table.add_row(title, *(f"{v:.2f}" for v in values))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
