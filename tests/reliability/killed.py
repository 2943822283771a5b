"""Runs that are killed at random moments, over and over, until one comes to its end.

    kill_until_done("train", tmp_path, kills=20, seed=0)     # {digest of a result: how often}, kills

Everything is imported once; each attempt is a fork of what has imported it. It makes or continues the run of
a folder, and is killed, with all that it has started, after a random part of the time that the whole takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from simscaleai.datagen import content_hash, generate_dataset, render_dataset, shards
from simscaleai.rl.settings import RLConfig
from simscaleai.rl.training import train_agent
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.tools.sweep import run_sweep
from simscaleai.training import TrainConfig
from simscaleai.training.training_run import train_policy
from tests import forked

DATA: dict[str, Any] = {"n_episodes": 12, "max_steps": 20, "env_kwargs": {"dt": 0.005}}
QUIET: dict[str, Any] = {"policy_type": "scripted", "show_progress": False}


def datagen(folder: Path, data: Path, workers: int = 1) -> str:
    generate_dataset(
        "reach",
        96,
        str(folder / "d.h5"),
        noise=0.3,
        max_steps=30,
        num_envs=8,
        env_kwargs={"dt": 0.005},
        workers=workers,
        resume=True,
        **QUIET,
    )
    return content_hash(folder / "d.h5")


def datagen_workers(folder: Path, data: Path) -> str:
    return datagen(folder, data, workers=2)


def render(folder: Path, data: Path) -> str:
    render_dataset(
        data, folder / "r.h5", ["front_cam"], 16, engine="auto", resume=True, show_progress=False
    )
    return content_hash(folder / "r.h5")


def train(folder: Path, data: Path) -> str:
    train_policy(
        TrainConfig(
            dataset_path=str(data),
            checkpoint_dir=str(folder / "c"),
            model_kwargs={"hidden_dim": 32, "dropout": 0.2},
            max_steps=120,
            batch_size=16,
            save_every=10,
            eval_every=20,
            log_every=1,
            device="cpu",
            resume_from="auto",
            show_progress=False,
            use_tensorboard=False,
        )
    )
    return digest(folder / "c/final.pt")


def rl(folder: Path, data: Path) -> str:
    config = RLConfig(
        num_envs=4,
        name="r",
        eval_every=2,
        eval_episodes=2,
        device="cpu",
        resume_from="auto",
        show_progress=False,
        use_tensorboard=False,
    )
    config.agent |= {"total_timesteps": 1600, "n_steps": 16}
    with contextlib.chdir(folder):
        train_agent(config)
    return digest(folder / "runs/r/final.pt")


def sweep(folder: Path, data: Path) -> str:
    flags = {"data.path": str(data), "trainer.max_steps": 12, "trainer.device": "cpu"}
    flags |= {"trainer.save_every": 4, "trainer.use_tensorboard": False}
    with contextlib.chdir(folder):
        left = run_sweep(["seed=0,1", "model.hidden_dim=16"], flags=flags, name="s")
    assert left == 0
    found = sorted((folder / "runs/s").glob("*/checkpoints/final.pt"))
    assert len(found) == 2
    return "-".join(map(digest, found))


RUNS: dict[str, Callable[[Path, Path], str]] = {
    "datagen": datagen,
    "datagen-2-workers": datagen_workers,
    "render": render,
    "train": train,
    "rl": rl,
    "sweep": sweep,
}


def digest(checkpoint: Path) -> str:
    """Of all numbers that training has made: weights, and the optimizer's."""
    payload = load_checkpoint(checkpoint)
    parts_of_it = {key: payload[key] for key in ("weights", "optimizer", "ppo") if key in payload}
    tensors = dict(_tensors(parts_of_it))
    assert tensors
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return whole.hexdigest()


def _tensors(tree: Any, prefix: str = "") -> Any:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, torch.Tensor):
            yield f"{prefix}/{key}", value
        elif isinstance(value, dict | list):
            yield from _tensors(value, f"{prefix}/{key}")


def make_data(path: Path) -> Path:
    generate_dataset("reach", output_path=str(path), **DATA, **QUIET)
    return path


def _record(kind: str, folder: Path, data: Path) -> None:
    """Make or continue the run of a folder, in a process group of its own; write its digest beside it."""
    os.setsid()
    os.dup2(os.open(folder.with_suffix(".log"), os.O_CREAT | os.O_WRONLY), 2)
    os.dup2(2, 1)
    torch.set_num_threads(1)
    shards.SHARD_EPISODES = 4  # many: a kill hits between two of them, and in the middle of one
    folder.mkdir(parents=True, exist_ok=True)
    folder.with_suffix(".digest").write_text(RUNS[kind](folder, data))


def attempt(kind: str, folder: Path, data: Path, seconds: float | None = None) -> str | None:
    """The digest that a run in `folder` comes to; None if it was killed after `seconds`."""
    process = forked.start(_record, kind, folder, data)
    process.join(600 if seconds is None else seconds)
    code = process.exitcode
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
    process.kill()  # it may not yet have had a group
    process.join()
    log = folder.with_suffix(".log")
    assert code in (None, 0), f"{kind}: {log.read_text()[-3000:]}"
    return None if code is None else folder.with_suffix(".digest").read_text()


def kill_until_done(kind: str, folder: Path, kills: int, seed: int) -> tuple[str, Counter[str]]:
    """The digest of an undisturbed run, and how often each digest came of runs with `kills` in all."""
    folder.mkdir(parents=True, exist_ok=True)
    data = make_data(folder / "data.h5")
    began = time.monotonic()
    whole = attempt(kind, folder / "whole", data)
    seconds = time.monotonic() - began
    assert whole is not None
    rng, done, found = random.Random(seed), 0, Counter[str]()
    while done < kills:
        place = folder / f"after-{done}"
        for _ in range(4):
            done += (result := attempt(kind, place, data, rng.uniform(0, seconds))) is None
            if result is not None:
                break
        else:
            result = attempt(kind, place, data)
        assert result is not None
        found[result] += 1
    return whole, found
