"""Output of a training run: the log in its folder, and a progress bar or lines on the terminal.

Every `log_every` steps the means over the steps since the last entry are logged, and these rates:

    samples_per_second    of all processes together, without the time of evaluation and saving
    data_seconds          seconds per step that were spent waiting for the next batch
    step_seconds          the other seconds per step
    data_wait_share       fraction of the time spent waiting for data: near 0 if loading is fast enough

Every process calls `write`, since means are taken over the processes; only the main one writes and prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simscaleai.errors import printable
from simscaleai.json_types import JsonDict
from simscaleai.tensor_types import Tensors
from simscaleai.terminal import can_draw
from simscaleai.tracking import RunLog
from simscaleai.training.run_config import RunConfig

_REFRESH_SECONDS = 0.25  # between two drawings of the bar
_LINE_SECONDS = 10.0  # between two lines, where no bar can be drawn


class Report:
    """Progress bar and log of a run: it collects the scalars of every step and writes their means.

    It is a context manager, and opens no file before its block is entered.

    Args:
      settings: settings of the run.
      folder: folder of the run.
      start_step: the step that the run is resumed from; 0 for a new one.
      processes: number of processes.
      main: whether this is the main process, which writes.
      reduce: function from a tensor of numbers to their means over the processes.
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
        self._outputs: list[Tensors] = []  # scalars of the steps since the last `write`
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
        """Print a line, if progress is shown."""
        self.console.print(printable(text), highlight=False, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """Print a line, even if no progress is shown."""
        if self.main:
            Console(stderr=True).print(
                printable(text), highlight=False, soft_wrap=True, markup=False
            )

    def restart_clock(self) -> None:
        """Start measuring rates anew, so that time spent on evaluation or saving does not count."""
        self._clock = time.perf_counter()
        self._samples = self._steps = 0
        self._waited = 0.0

    def collect(self, step: int, outputs: Tensors, samples: int, waited: float = 0.0) -> None:
        """Record the scalars of a step, and the seconds it waited for data; move the bar now and then."""
        # They stay on the device until `write`: reading a number would wait for the GPU at every step.
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
        """Log the means since the last call, the learning rate and the rates; return them."""
        if not self._outputs:
            return {}
        keys = list(dict.fromkeys(key for outputs in self._outputs for key in outputs))
        # A scalar that not every step has is averaged over the steps that have it.
        given = ([o[key].float() for o in self._outputs if key in o] for key in keys)
        columns = [torch.stack(numbers).mean() for numbers in given]  # () each
        # One all-reduce and one copy from the device for all of them.
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
        """Log and print the metrics of an evaluation."""
        if self.main and values:
            self._log.record(step, values)
            listed = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
            self._progress.update(self._task, completed=step, text=self._text)
            self.say(f"step {step}/{self.settings.trainer.max_steps}  {listed}")

    def _show(self, step: int, values: dict[str, float]) -> None:
        """Show the training metrics beside the bar, or as a line every `_LINE_SECONDS`."""
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


def scalars(outputs: Mapping[str, object]) -> Tensors:
    """Return the scalar tensors among a model's outputs, detached from the graph."""
    return {
        k: v.detach() for k, v in outputs.items() if isinstance(v, torch.Tensor) and v.ndim == 0
    }


def _wandb_options(settings: RunConfig) -> JsonDict | None:
    """Return arguments of `wandb.init`; None for a run that is not logged there."""
    log = settings.log
    if not log.use_wandb:
        return None
    flat = asdict(settings.train_config())
    return {
        "project": log.wandb_project,
        "name": log.wandb_run_name or settings.name,
        "config": flat,
    }
