"""What a training run tells: records in its folder, and a progress bar or lines on the terminal.

Training is recorded every `log_every` steps, as means over the steps since the record before:

    samples_per_second    of all processes together; evaluation and saving are left out
    data_seconds          waiting for the next batch, a step
    step_seconds          everything else, a step
    data_wait_share       data_seconds as a share of both: near 0 where the data keeps up

Of several processes all call `write`, as means are taken over them; only the main one writes and shows
anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simscaleai.errors import printable
from simscaleai.progress import can_draw
from simscaleai.tracking import RunLog
from simscaleai.training.run_config import RunConfig

_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 10.0


class Report:
    """Collects what each step gives and writes means of it; a context manager around a run.

    Collecting costs next to nothing: values stay on the device until `write`. No file is opened before the
    block is entered.

    Args:
      settings: of the run.
      folder: of the run.
      start_step: the step after which it goes on.
      processes: how many train together.
      main: whether this process is the one that writes.
      reduce: a tensor of numbers to their means over the processes.
    """

    def __init__(
        self,
        settings: RunConfig,
        folder: Path,
        start_step: int,
        processes: int = 1,
        main: bool = True,
        reduce: Callable[[torch.Tensor], torch.Tensor] = lambda values: values,
    ) -> None:
        self.settings = settings
        self.processes, self.main, self.reduce = processes, main, reduce
        self._log = RunLog(
            folder, start_step, settings.log.use_tensorboard, _wandb_options(settings)
        )
        visible = settings.log.show_progress and main
        self.console = Console(stderr=True, quiet=not visible)
        self._outputs: list[dict[str, torch.Tensor]] = []
        self._step = start_step
        self._text = ""
        self._refreshed = self._spoken = time.perf_counter()
        self.restart_clock()
        self._progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            auto_refresh=False,
            expand=True,
            disable=not (visible and can_draw(self.console)),
        )
        self._task = self._progress.add_task(
            "training", total=settings.trainer.max_steps, completed=start_step, text=""
        )

    def __enter__(self) -> Report:
        if self.main:
            self._log.__enter__()
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
        if self.main:
            self._log.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """Tell the user one thing."""
        self.console.print(printable(text), highlight=False, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """Tell the user one thing even where no progress is shown."""
        if self.main:
            Console(stderr=True).print(
                printable(text), highlight=False, soft_wrap=True, markup=False
            )

    def restart_clock(self) -> None:
        """Leave the time until now out of the rates: it went into evaluation or saving."""
        self._clock = time.perf_counter()
        self._samples = self._steps = 0
        self._waited = 0.0

    def collect(
        self, step: int, outputs: dict[str, Any], samples: int, waited: float = 0.0
    ) -> None:
        """Remember a step's scalars and the seconds it waited for data; move the bar now and then."""
        self._outputs.append(outputs)
        self._samples += samples
        self._waited += waited
        self._steps += 1
        self._step = step
        now = time.perf_counter()
        if now - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = now
            self._progress.update(self._task, completed=step, text=self._text)
            self._progress.refresh()

    def write(self, step: int, lr: float) -> dict[str, float]:
        """Record the means since the last call, with learning rate and rates; return them."""
        if not self._outputs:
            return {}
        keys = list(dict.fromkeys(key for outputs in self._outputs for key in outputs))
        # a number that comes and goes is averaged over the steps that gave it
        given = ([o[key].float() for o in self._outputs if key in o] for key in keys)
        columns = [torch.stack(numbers).mean() for numbers in given]
        means = self.reduce(torch.stack(columns)).tolist() if columns else []
        values = {**dict(zip(keys, means, strict=True)), "lr": lr, **self._rates()}
        self._outputs = []
        self.restart_clock()
        if self.main:
            self._log.record(step, values)
            self._show(step, values)
        return values

    def _rates(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self._clock, 1e-9)
        steps = max(self._steps, 1)
        return {
            "samples_per_second": self.processes * self._samples / seconds,
            "data_seconds": self._waited / steps,
            "step_seconds": (seconds - self._waited) / steps,
            "data_wait_share": self._waited / seconds,
        }

    def record(self, step: int, values: dict[str, float]) -> None:
        """Record and tell what an evaluation found, if anything."""
        if self.main and values:
            self._log.record(step, values)
            listed = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
            self._progress.update(self._task, completed=step, text=self._text)
            self.say(f"step {step}/{self.settings.trainer.max_steps}  {listed}")

    def _show(self, step: int, values: dict[str, float]) -> None:
        """Training, beside the bar, or as a line now and then."""
        self._text = (
            f"loss {values['loss']:.3g}  lr {values['lr']:.2g}"
            f"  {values['samples_per_second']:,.0f} samples/s"
            f"  data wait {100 * values['data_wait_share']:.0f} %"
        )
        now = time.perf_counter()
        last = step >= self.settings.trainer.max_steps
        if self._progress.disable and (now - self._spoken > _LINE_SECONDS or last):
            self._spoken = now
            self.say(f"step {step}/{self.settings.trainer.max_steps}  {self._text}")


def scalars(outputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The single numbers among a model's outputs, without their graph."""
    return {
        k: v.detach() for k, v in outputs.items() if isinstance(v, torch.Tensor) and v.ndim == 0
    }


def _wandb_options(settings: RunConfig) -> dict[str, Any] | None:
    """Return arguments of `wandb.init`; None for a run that is not recorded there."""
    log = settings.log
    if not log.use_wandb:
        return None
    flat = asdict(settings.train_config())
    return {
        "project": log.wandb_project,
        "name": log.wandb_run_name or settings.name,
        "config": flat,
    }
