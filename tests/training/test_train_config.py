from __future__ import annotations

import dataclasses

import pytest
import torch

from simscaleai.config import load_config
from simscaleai.errors import UserError
from simscaleai.training import TrainConfig
from simscaleai.training.component_settings import HardwareSettings, ScheduleSettings
from simscaleai.training.schedules import effective_warmup


def test_documented_fields_and_defaults_come_first() -> None:
    config = TrainConfig()
    documented = {
        "model_name": "bc", "model_kwargs": {}, "dataset_path": "", "batch_size": 32,
        "num_workers": 4, "lr": 1e-4, "weight_decay": 1e-5, "warmup_steps": 500,
        "max_steps": 100_000, "grad_clip": 1.0, "use_amp": True, "amp_dtype": "bfloat16",
        "distributed": False, "backend": "nccl", "checkpoint_dir": "checkpoints",
        "save_every": 5000, "resume_from": None, "log_every": 100, "eval_every": 1000,
        "use_wandb": False, "wandb_project": "simscaleai", "wandb_run_name": None,
        "device": "auto",
    }  # fmt: skip
    fields = [f.name for f in dataclasses.fields(config)]
    assert fields[: len(documented)] == list(documented)
    assert {k: getattr(config, k) for k in documented} == documented


def test_learning_rate_by_hand() -> None:
    config = TrainConfig(lr=0.1, warmup_steps=4, max_steps=12)
    # A quarter of the peak per step, then half a cosine over the remaining 8 steps:
    # 0.05 * (1 + cos(pi * k / 8)), which is 0.1, ..., 0.05 at k = 4, ..., and 0 at k = 8.
    rates = [config.learning_rate(s) for s in range(13)]
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert rates[8] == pytest.approx(0.05)
    assert rates[12] == pytest.approx(0.0)
    assert TrainConfig(lr=0.1, warmup_steps=0).learning_rate(0) == pytest.approx(0.1)


def test_warmup_shrinks_to_fit() -> None:
    assert effective_warmup(ScheduleSettings(warmup_steps=500), 1000) == 500
    assert effective_warmup(ScheduleSettings(warmup_steps=500), 500) == 50
    short = TrainConfig(warmup_steps=500, max_steps=3, lr=0.1)
    assert effective_warmup(short.part(ScheduleSettings), 3) == 0
    assert short.learning_rate(0) == pytest.approx(0.1)


def test_devices_and_dtypes() -> None:
    assert TrainConfig(device="cpu").resolved_device == "cpu"
    assert TrainConfig().resolved_device in ("cpu", "cuda", "mps")
    assert TrainConfig().amp_torch_dtype is torch.bfloat16
    assert TrainConfig(amp_dtype="float16").amp_torch_dtype is torch.float16
    assert not HardwareSettings(device="cpu").uses_amp
    with pytest.raises(UserError, match=r"amp_dtype 'bf16'.*bfloat16"):
        _ = TrainConfig(amp_dtype="bf16").amp_torch_dtype
    with pytest.raises(UserError, match="'gpu' is not available"):
        _ = TrainConfig(device="gpu").resolved_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_hardware_is_named() -> None:
    with pytest.raises(UserError, match=r"'cuda' is not available; here there is .*cpu"):
        _ = TrainConfig(device="cuda").resolved_device


def test_all_problems_at_once() -> None:
    with pytest.raises(UserError) as error:
        TrainConfig(batch_size=0, max_steps=-1, lr=float("nan"), run_name="../x").check()
    for name in ("batch_size is 0", "max_steps is -1", "lr is nan", "run_name is '../x'"):
        assert name in str(error.value)


def test_loads_from_words() -> None:
    config = load_config(TrainConfig, overrides=["lr=3e-4", "model_kwargs.hidden_dim=64"])
    assert (config.lr, config.model_kwargs) == (3e-4, {"hidden_dim": 64})
