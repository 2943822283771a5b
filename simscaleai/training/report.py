"""What a run tells: `metrics.jsonl` always, a progress bar or lines, Weights & Biases on request."""

from __future__ import annotations

import importlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simscaleai.errors import UserError
from simscaleai.training.config import TrainConfig

METRICS_FILE = "metrics.jsonl"
_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 10.0


class Report:
    """Collects what each step gives and writes means of it; a context manager around a run.

    Collecting costs next to nothing: values stay on the device until `write`.
    """

    def __init__(self, config: TrainConfig, folder: Path, start_step: int) -> None:
        self.config = config
        self.console = Console(stderr=True, quiet=not config.show_progress)
        self._path = folder / METRICS_FILE
        self._outputs: list[dict[str, torch.Tensor]] = []
        self._samples = 0
        self._step = start_step
        self._text = ""
        self._refreshed = self._spoken = self._clock = time.perf_counter()
        self._wandb = _start_wandb(config) if config.use_wandb else None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self.console,
            auto_refresh=False,
            disable=not (self.console.is_terminal and config.show_progress),
        )
        self._task = self._progress.add_task(
            "training", total=config.max_steps, completed=start_step, text=""
        )

    def __enter__(self) -> Report:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="utf-8")
        self._progress.start()
        self.restart_clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.update(self._task, completed=self._step, text=self._text)
        self._progress.stop()
        self._file.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def say(self, text: str) -> None:
        """Tell the user one thing."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def restart_clock(self) -> None:
        """Leave the time until now out of samples/s: it went into evaluation or saving."""
        self._clock, self._samples = time.perf_counter(), 0

    def collect(self, step: int, outputs: dict[str, Any], samples: int) -> None:
        """Remember a step's scalars, and move the bar now and then."""
        self._outputs.append(outputs)
        self._samples += samples
        self._step = step
        now = time.perf_counter()
        if now - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = now
            self._progress.update(self._task, completed=step, text=self._text)
            self._progress.refresh()

    def write(self, step: int, lr: float) -> dict[str, float]:
        """Record the means since the last call, with learning rate and samples/s; return them."""
        if not self._outputs:
            return {}
        means = {
            key: torch.stack([o[key].float() for o in self._outputs]).mean().item()
            for key in self._outputs[-1]
        }
        seconds = time.perf_counter() - self._clock
        values = {**means, "lr": lr, "samples_per_second": self._samples / max(seconds, 1e-9)}
        self._outputs = []
        self.restart_clock()
        self.record(step, values)
        return values

    def record(self, step: int, values: dict[str, float]) -> None:
        """Write values of a step to every destination."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._wandb is not None:
            self._wandb.log(values, step=step)
        shown = {k: v for k, v in values.items() if k != "samples_per_second"}
        self._text = "  ".join(f"{k} {v:.3g}" for k, v in shown.items() if k in ("loss", "lr"))
        if "samples_per_second" in values:
            self._text += f"  {values['samples_per_second']:,.0f} samples/s"
        now = time.perf_counter()
        last = step >= self.config.max_steps
        if self._progress.disable and (now - self._spoken > _LINE_SECONDS or last):
            self._spoken = now
            listed = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
            self.say(f"step {step}/{self.config.max_steps}  {listed}")


def scalars(outputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The single numbers among a model's outputs, without their graph."""
    return {
        k: v.detach() for k, v in outputs.items() if isinstance(v, torch.Tensor) and v.ndim == 0
    }


def _start_wandb(config: TrainConfig) -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise UserError(
            "use_wandb needs the package wandb, which is not installed; install simscaleai[tracking]"
            " or leave use_wandb off."
        ) from None
    return wandb.init(
        project=config.wandb_project, name=config.wandb_run_name, config=asdict(config)
    )
