"""Short runs of every registered model, stopped and resumed: python resume_run.py FOLDER STOPS WORKERS.

Started in several processes it is a run of all of them together. It prints nothing but `null`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from simscaleai.models import list_models
from simscaleai.models.registry import model_presets
from simscaleai.training import TrainConfig, Trainer, build_trainer, fit_model
from simscaleai.training.data.dummy import DummyTrajectoryDataset

MODELS = [name for name in list_models() if not name.startswith("test-")]


def debug(name: str) -> str:
    """The name of a model at its smallest."""
    return f"{name}:debug" if "debug" in model_presets(name) else name


STEPS, EPOCH = 7, 4  # an epoch of 14 samples in batches of 4, the last one of 2


class Few(DummyTrajectoryDataset):
    """14 samples, which worker processes are used for."""

    in_memory = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(14, **kwargs)


def make(name: str, folder: Path, **kwargs: Any) -> Trainer:
    base: dict[str, Any] = {"batch_size": 4, "max_steps": STEPS, "warmup_steps": 0, "log_every": 1}
    base |= {"device": "cpu", "show_progress": False, "use_tensorboard": False, "num_workers": 0}
    base |= {"save_every": 1, "keep_checkpoints": 0, "checkpoint_dir": str(folder)}
    original, fit_model.DummyTrajectoryDataset = fit_model.DummyTrajectoryDataset, Few  # type: ignore[misc]
    try:
        return build_trainer(TrainConfig(debug(name), **{**base, **kwargs}))
    finally:
        fit_model.DummyTrajectoryDataset = original  # type: ignore[misc]


def whole_and_resumed(name: str, folder: Path, stops: list[int], workers: int) -> None:
    """Leaves `whole/final.pt`, and `<step>/final.pt` of a run that went on from each of `stops`."""
    make(name, folder / "whole", num_workers=workers).train()
    for stop in stops:
        torch.manual_seed(999)  # a new process has another random state
        start = str(folder / f"whole/step_{stop}.pt")
        make(name, folder / str(stop), num_workers=workers, save_every=0, resume_from=start).train()


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, stops, workers = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
    for model in MODELS:
        whole_and_resumed(model, place / model, [int(s) for s in stops], workers)
    print("null")
