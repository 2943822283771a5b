"""Mutated checkpoints through everything that loads one: python checkpoints.py FOLDER SEED COUNT [CASE].

Files of a trainer and of an agent, and folders of parts; `safetensors_.py` has those of `save_pretrained`.
"""

from __future__ import annotations

import copy
import io
import json
import sys
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import engine
import numpy as np
import torch
from mutations import STRANGE, Rng, mutate_bytes, mutate_tree, pick

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.storage.sharded_checkpoint import INDEX_FILE, PLAIN_FILE
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

SHAPES = {"ee_pos": (3,), "target_pos": (3,)}
TENSORS: list[Any] = [
    *(torch.zeros(()), torch.zeros(0), torch.full((6,), float("nan")), torch.zeros(3, 3)),
    *(
        torch.zeros(6, dtype=torch.int64),
        torch.zeros(6, dtype=torch.bfloat16),
        torch.zeros(1, 1, 1),
    ),
    *(torch.zeros(2, dtype=torch.complex64), torch.zeros(1).expand(2**40), torch.zeros(5000)),
    torch.eye(3).to_sparse(),
]


def policy() -> ModelPolicy:
    spec = ObsSpec(dict(SHAPES), dict.fromkeys(SHAPES, "float32"))
    model = create_model("bc", state_dim=6, hidden_dim=8, n_layers=2)
    one = Statistics(*(torch.full((6,), v) for v in (0.0, 1.0, -1.0, 1.0, -1.0, 1.0)))
    dtypes = dict.fromkeys(SHAPES, "float32")
    contract = EnvContract("reach", {"dt": 0.005}, dict(SHAPES), dtypes, 4, 0.05)
    return ModelPolicy(model, spec, Normalizer({"state": one}), contract)


def trainer(folder: Path, **options: Any) -> Trainer:
    data = DummyTrajectoryDataset(8, obs_dim=6)
    settings: dict[str, Any] = {"batch_size": 8, "max_steps": 1, "warmup_steps": 0, "device": "cpu"}
    settings |= {"show_progress": False, "use_tensorboard": False, "checkpoint_dir": str(folder)}
    return Trainer(policy().model, make_loader(data, 8), TrainConfig(**settings, **options))


@cache
def originals(folder: Path) -> dict[str, Any]:
    """{kind: payload}."""
    learner = trainer(folder / "run", ema_decay=0.9)
    learner.train()
    trained = torch.load(folder / "run" / "final.pt", weights_only=True)
    acting = policy()
    trained["policy"], trained["weights"] = acting.description(), dict(acting.state_dict())
    agent = folder / "agent.pt"
    PPOAgent(6, 4, PPOConfig(hidden_dim=8)).save(agent)
    bare = torch.load(folder / "run" / "final.pt", weights_only=True)
    return {"policy": trained, "bare": bare, "agent": torch.load(agent, weights_only=True)}


def make(rng: Rng, folder: Path) -> Path:
    payload = originals(folder.parent)[pick(rng, ["policy", "policy", "bare", "agent"])]
    if rng.random() < 0.8:
        payload = mutate_tree(rng, payload, [*STRANGE, *TENSORS])
    if rng.random() < 0.15 and isinstance(payload, dict):
        return in_parts(rng, folder, payload)
    path = folder / "evil.pt"
    torch.save(payload, path)
    kind = rng.random()
    if kind < 0.15:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
    elif kind < 0.4:
        path.write_bytes(rezipped(rng, path.read_bytes()))
    return path


def rezipped(rng: Rng, content: bytes) -> bytes:
    """The archive with one record changed and its checksums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        entries = old.infolist()
        chosen = pick(rng, [entries[0], pick(rng, entries)]).filename
        for entry in entries:
            data = old.read(entry)
            if entry.filename == chosen and data:
                data = mutate_bytes(rng, data)
            new.writestr(entry.filename, data)
    return out.getvalue()


def in_parts(rng: Rng, folder: Path, payload: dict[str, Any]) -> Path:
    """A checkpoint folder whose index was changed."""
    path = folder / "step_7"
    path.mkdir()
    plain = {k: v for k, v in payload.items() if k not in ("weights", "optimizer", "raw_weights")}
    torch.save(plain, path / PLAIN_FILE)
    tensors, data = {}, b""
    weights = payload.get("weights")
    for name, value in (weights if isinstance(weights, dict) else {}).items():
        if (
            isinstance(value, torch.Tensor)
            and value.dtype == torch.float32
            and value.numel() < 10**6
        ):
            raw = value.contiguous().numpy().tobytes()
            shape, zero = list(value.shape), [0] * value.ndim
            part = {"offset": zero, "shape": shape, "file": "part_0.bin", "start": len(data)}
            part |= {"size": len(raw), "crc32": zlib.crc32(raw)}
            tensors[f"weights/{name}"] = {"dtype": "float32", "shape": shape, "parts": [part]}
            data += raw + bytes(-len(raw) % 64)
    index: Any = {"format_version": 1, "tensors": tensors}
    if rng.random() < 0.8:
        index = mutate_tree(rng, index)
    text = json.dumps(index).encode()
    (path / INDEX_FILE).write_bytes(mutate_bytes(rng, text) if rng.random() < 0.2 else text)
    (path / "part_0.bin").write_bytes(
        mutate_bytes(rng, data) if data and rng.random() < 0.2 else data
    )
    return path


def use(path: Path) -> None:
    refused: UserError | None = None
    for way in (load_checkpoint, act, resume, learn):
        try:
            way(path)
        except UserError as error:
            refused = error
    if refused is not None:
        raise refused


def act(path: Path) -> None:
    loaded = ModelPolicy.from_checkpoint(path, "cpu")
    loaded.reset(np.ones(2, bool), [0, 1])
    loaded.act({k: np.zeros((2, *shape), np.float32) for k, shape in SHAPES.items()})
    if loaded.contract is not None:
        loaded.contract.require(copy.deepcopy(policy().contract or loaded.contract))


def resume(path: Path) -> None:
    trainer(path.parent / "run", resume_from=str(path), ema_decay=0.9).train()


def learn(path: Path) -> None:
    agent = PPOAgent.from_checkpoint(path)
    agent.save(path.parent / "again.pt")


if __name__ == "__main__":
    engine.main(make, use)
