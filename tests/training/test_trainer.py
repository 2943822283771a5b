from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dataset import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

DATA = DummyTrajectoryDataset(50, obs_dim=5)


def model(**kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return create_model("bc", state_dim=5, hidden_dim=16, n_layers=2, **kwargs)


def config(folder: Path, **kwargs: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "batch_size": 8,
        "lr": 1e-2,
        "max_steps": 10,
        "warmup_steps": 0,
        "device": "cpu",
        "show_progress": False,
        "use_tensorboard": False,
        "checkpoint_dir": str(folder / "ck"),
    }
    return TrainConfig(**{**base, **kwargs})


def trainer(cfg: TrainConfig, net: nn.Module | None = None, **kwargs: Any) -> Trainer:
    return Trainer(net or model(), make_loader(DATA, cfg.batch_size, cfg.seed), cfg, **kwargs)


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in net.state_dict().items()}


def equal(a: Any, b: Any) -> bool:
    """Bit-equality of nested values."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_first_updates_match_plain_adamw(tmp_path: Path) -> None:
    """The loop against a dozen plain lines: no clipping, no dropout, the same batches."""
    cfg = config(tmp_path, grad_clip=0.0, max_steps=9, warmup_steps=3)
    ours = trainer(cfg, model(dropout=0.0))
    ours.train()

    net = model(dropout=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-5)
    loader = make_loader(DATA, 8)
    batches = [*loader]
    loader.batch_sampler.move_to(1)
    batches += [*loader]
    for step, batch in enumerate(batches[:9]):
        optimizer.param_groups[0]["lr"] = 1e-2 * (
            (step + 1) / 3 if step < 3 else (1 + math.cos(math.pi * (step - 3) / 6)) / 2
        )
        loss = ((net.head(batch["observations"]["state"]) - batch["actions"]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for key, value in net.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[key], value)


def test_loss_falls_and_metrics_are_recorded(tmp_path: Path) -> None:
    cfg = config(tmp_path, max_steps=300, log_every=100)
    metrics = trainer(cfg).train()
    records = [json.loads(line) for line in (tmp_path / "ck/metrics.jsonl").open()]
    assert [r["step"] for r in records] == [100, 200, 300]
    assert metrics["loss"] == records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert metrics["step"] == 300
    assert {"action_mse", "action_mae", "lr", "samples_per_second"} <= metrics.keys()
    names = sorted(p.name for p in (tmp_path / "ck").iterdir())
    assert names == ["final.pt", "last", "metrics.jsonl"]


def test_run_shorter_than_log_every_still_reports_a_loss(tmp_path: Path) -> None:
    assert math.isfinite(trainer(config(tmp_path, max_steps=3)).train()["loss"])


def test_recorded_loss_is_the_mean_since_the_last_record(tmp_path: Path) -> None:
    cfg = config(tmp_path, max_steps=4, log_every=2)
    losses: list[float] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            outputs = self.inner(batch)
            losses.append(outputs["loss"].item())
            return outputs

    trainer(cfg, Watched()).train()
    recorded = [json.loads(line)["loss"] for line in (tmp_path / "ck/metrics.jsonl").open()]
    assert recorded == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2])


def test_gradient_is_clipped(tmp_path: Path) -> None:
    seen: list[float] = []
    cfg = config(tmp_path, grad_clip=1e-3, max_steps=3)
    ours = trainer(cfg)
    ours.optimizer.register_step_pre_hook(
        lambda *_: seen.append(
            math.sqrt(sum(p.grad.square().sum().item() for p in ours.model.parameters()))
        )
    )
    ours.train()
    assert seen == pytest.approx([1e-3] * 3, rel=1e-3)


@pytest.mark.parametrize("stop", [1, 5, 7, 14])  # an epoch has 7 batches
@pytest.mark.parametrize("plain_loader", [False, True])
def test_resume_is_bit_exact(tmp_path: Path, stop: int, plain_loader: bool) -> None:
    def run(**kwargs: Any) -> Trainer:
        cfg = config(tmp_path, max_steps=16, log_every=1, keep_checkpoints=0, **kwargs)
        loader = make_loader(DATA, 8, cfg.seed)
        if plain_loader:
            loader = DataLoader(DATA, batch_size=8, shuffle=True)
        ours = Trainer(model(dropout=0.3), loader, cfg)
        ours.train()
        return ours

    whole = run(save_every=stop)
    torch.manual_seed(999)  # a new process has another random state
    resumed = run(resume_from=str(tmp_path / f"ck/step_{stop}.pt"))
    assert equal(weights(whole.model), weights(resumed.model))
    assert equal(whole.optimizer.state_dict(), resumed.optimizer.state_dict())
    assert whole.metrics["loss"] == resumed.metrics["loss"]


def test_two_runs_of_a_seed_are_equal_and_another_seed_differs(tmp_path: Path) -> None:
    runs = []
    for seed in (0, 0, 1):
        ours = trainer(config(tmp_path, seed=seed))
        ours.train()
        runs.append(weights(ours.model))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def test_evaluation_is_a_mean_over_samples_and_changes_nothing(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    net = model(dropout=0.5)
    held_out = DummyTrajectoryDataset(10, obs_dim=5, seed=1)
    ours = trainer(cfg, net, eval_loader=DataLoader(held_out, batch_size=4, shuffle=True))
    state = torch.get_rng_state()
    found = ours.evaluate()
    assert torch.equal(state, torch.get_rng_state())
    assert all(m.training for m in net.modules())
    whole = held_out.collate(held_out.__getitems__(range(10)))
    net.eval()
    assert found["eval_loss"] == pytest.approx(net(whole)["loss"].item(), rel=1e-5)
    assert found.keys() == {"eval_loss", "eval_action_mse", "eval_action_mae"}


def test_evaluating_often_does_not_change_the_training(tmp_path: Path) -> None:
    results = []
    for every in (0, 2):
        held_out = make_loader(DATA, 8, shuffle=False)
        ours = trainer(
            config(tmp_path, eval_every=every),
            model(dropout=0.3),
            eval_loader=held_out,
            eval_fn=lambda net: torch.rand(()),
        )
        metrics = ours.train()
        results.append(weights(ours.model))
        assert ("eval_loss" in metrics) == (every > 0)
    assert equal(*results)


def test_eval_fn_is_called_with_the_model(tmp_path: Path) -> None:
    calls = []

    def eval_fn(net: nn.Module) -> dict[str, Any]:
        calls.append((net, net.training))
        return {"success_rate": np.float64(0.25)}

    ours = trainer(config(tmp_path, eval_every=4), eval_fn=eval_fn)
    assert ours.train()["success_rate"] == 0.25
    assert calls == [(ours.model, False)] * 3  # steps 4, 8 and the last
    assert trainer(config(tmp_path), eval_fn=lambda net: 3).evaluate() == {"eval_score": 3.0}
    assert trainer(config(tmp_path)).evaluate() == {}


def test_non_finite_loss_stops_before_the_update(tmp_path: Path) -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = model(), 0
            self.before: dict[str, torch.Tensor] = {}

        def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            self.calls += 1
            self.before = weights(self.inner)
            outputs = self.inner(batch)
            if self.calls == 4:
                outputs["loss"] = outputs["loss"] * float("nan")
            return outputs

    net = Breaks()
    with pytest.raises(UserError, match="At step 4 the loss is nan"):
        trainer(config(tmp_path), net).train()
    assert equal(net.before, weights(net.inner))


def test_infinite_loss_with_a_finite_gradient_stops(tmp_path: Path) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(1))

        def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            return {"loss": self.x.sum() + math.inf}

    with pytest.raises(UserError, match="At step 1 the loss is inf"):
        trainer(config(tmp_path), Shifted()).train()


def test_infinite_gradient_stops_too(tmp_path: Path) -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(1))

        def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            return {"loss": self.x.sqrt().sum()}  # 0, with an infinite slope

    net = Root()
    with pytest.raises(UserError, match=r"At step 1 .* gradient inf"):
        trainer(config(tmp_path), net).train()
    assert net.x.item() == 0.0


def test_checkpoints_and_what_they_hold(tmp_path: Path) -> None:
    ours = trainer(config(tmp_path, save_every=4))
    ours.train()
    names = sorted(p.name for p in (tmp_path / "ck").glob("*.pt"))
    assert names == ["final.pt", "step_4.pt", "step_8.pt"]
    assert (tmp_path / "ck/last").resolve().name == "final.pt"
    payload = load_checkpoint(tmp_path / "ck/step_8.pt")
    assert payload["step"] == 8
    assert payload["data"] == {"epoch": 1, "position": 8}  # 7 batches, then 1 of 8 samples
    assert payload["config"]["batch_size"] == 8
    assert payload["policy"]["model_kwargs"]["state_dim"] == 5
    path = ours.save_checkpoint(123)
    assert path.name == "step_123.pt" and path.exists()


def test_an_earlier_run_is_moved_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck/notes.txt").write_text("mine")
    for run in range(3):
        trainer(config(tmp_path, seed=run, save_every=5, show_progress=True)).train()
    said = capsys.readouterr().err
    assert f"{tmp_path / 'ck.old-1'}" in said and f"{tmp_path / 'ck.old-2'}" in said
    for run, folder in enumerate(("ck.old-1", "ck.old-2", "ck")):
        assert load_checkpoint(tmp_path / folder / "final.pt")["config"]["seed"] == run
        assert (tmp_path / folder / "step_5.pt").exists()
        assert len((tmp_path / folder / "metrics.jsonl").read_text().splitlines()) == 1
    assert (tmp_path / "ck/notes.txt").read_text() == "mine"


def test_resuming_keeps_its_own_past_and_elsewhere_makes_room(tmp_path: Path) -> None:
    trainer(config(tmp_path, save_every=4)).train()
    start = str(tmp_path / "ck/step_4.pt")
    trainer(config(tmp_path, max_steps=12, resume_from=start)).train()
    # What was made after the step that it goes on from is another course of the run.
    aside = sorted(p.name for p in (tmp_path / "ck.old-1").iterdir())
    assert aside == ["final.pt", "step_8.pt"]
    assert load_checkpoint(tmp_path / "ck/final.pt")["step"] == 12
    other = tmp_path / "other"
    trainer(config(other)).train()
    trainer(config(other, resume_from=start)).train()
    assert (other / "ck.old-1/final.pt").exists()


def test_finished_run_resumed_returns_its_metrics(tmp_path: Path) -> None:
    first = trainer(config(tmp_path)).train()
    again = trainer(config(tmp_path, resume_from=str(tmp_path / "ck/final.pt"))).train()
    assert again == first


def test_short_run_says_that_its_warmup_shrinks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(config(tmp_path, warmup_steps=500, show_progress=True)).train()
    assert "warmup of 500 steps to 1" in capsys.readouterr().err


def test_a_batch_of_the_whole_dataset_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(config(tmp_path, show_progress=True, batch_size=1_000_000)).train()
    assert "fewer than batch_size=1,000,000" in capsys.readouterr().err


def test_misfits_of_a_checkpoint_are_all_named(tmp_path: Path) -> None:
    trainer(config(tmp_path)).train()
    cfg = config(tmp_path, resume_from=str(tmp_path / "ck/final.pt"))
    other = create_model("bc", state_dim=6, hidden_dim=16, n_layers=1)
    with pytest.raises(UserError) as error:
        Trainer(other, make_loader(DATA, 8), cfg)
    text = str(error.value)
    assert "head.net.0.weight has shape (16, 5), expected (16, 6)" in text
    assert "is not known" in text and text.count("\n") == 0
