"""Log metrics by step, to every destination at once.

    with RunLog(Path("runs/a"), start_step=0) as log:
        log.record(100, {"loss": 0.1, "eval_success_rate": 0.5})

`metrics.jsonl` is always written: one line {"step": 100, "loss": 0.1, ...} per call, with null for
numbers that are not finite. TensorBoard files are written if it is installed, and Weights & Biases is
used on request. A run that resumes after `start_step` repeats later steps, so it deletes the old records
of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from simscaleai.convert import without_nan
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.disk import name_disk_errors
from simscaleai.tracking.trackers import (
    TensorBoard,
    Tracker,
    WeightsAndBiases,
    load_wandb,
    missing,
)

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """Context manager that logs a run; nothing is written before it is entered.

    Args:
      folder: the run folder, which is created.
      start_step: the step after which the run resumes; 0 for a new run.
      use_tensorboard: also write `<folder>/tensorboard`; None to do so if TensorBoard is installed.
      wandb: arguments of `wandb.init`, such as project and name; None for no Weights & Biases.

    Raises:
      UserError: a requested tracker is not installed or does not start.
    """

    def __init__(
        self,
        folder: Path,
        start_step: int = 0,
        use_tensorboard: bool | None = None,
        wandb: JsonDict | None = None,
    ) -> None:
        if wandb is not None:
            load_wandb()  # a missing package is reported before the run starts
        self.folder, self.start_step = folder, start_step
        self._wandb = wandb
        installed = TensorBoard.installed()  # an optional extra
        self._use_tensorboard = installed if use_tensorboard is None else use_tensorboard
        if self._use_tensorboard and not installed:
            raise missing("use_tensorboard", "tensorboard")
        self._trackers: list[Tracker] = []

    def __enter__(self) -> RunLog:
        with name_disk_errors(self.folder / METRICS_FILE):
            self._open()
        return self

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._wandb is not None:
            self._trackers.append(WeightsAndBiases(self.folder, self.start_step, self._wandb))
        if self._use_tensorboard:
            self._trackers.append(TensorBoard(self.folder, self.start_step))
        path = self.folder / METRICS_FILE
        drop_later_steps(path, self.start_step)
        self._file = path.open("a", encoding="utf-8")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # an error of the run itself must not be replaced by one of closing its log
        with suppress(OSError) if kind else name_disk_errors(self.folder / METRICS_FILE):
            try:
                self._file.close()
            finally:
                for tracker in self._trackers:
                    tracker.close(failed=kind is not None)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step; they are not lost if the process is killed afterwards.

        Raises:
          CannotWriteError: the disk is full or the like.
        """
        with name_disk_errors(self.folder / METRICS_FILE):
            # JSON has no NaN, and other parsers reject Python's extension of it
            line = json.dumps(without_nan({"step": step, **values}), allow_nan=False)
            self._file.write(f"{line}\n")
            self._file.flush()  # to the operating system, which outlives this process
        for tracker in self._trackers:
            with name_disk_errors(self.folder):
                tracker.record(step, values)


def drop_later_steps(path: Path, step: int) -> None:
    """Rewrite `metrics.jsonl` without lines of later steps and without an incomplete last line."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    kept = "".join(f"{line}\n" for line in text.splitlines() if _step_of(line) <= step)
    if kept != text:
        with atomic_path(path) as temporary:
            temporary.write_text(kept, encoding="utf-8")


def _step_of(line: str) -> float:
    """Return the step of a line; infinity for an incomplete line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
