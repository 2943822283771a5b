"""TensorBoard and Weights & Biases.

Both write to the run's folder, and a resumed run continues the same curves: TensorBoard is asked to purge
the steps that are made again, Weights & Biases keeps the id of its run.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from simscaleai.errors import UserError
from simscaleai.storage.disk import cannot_write

TENSORBOARD_FOLDER = "tensorboard"
WANDB_FOLDER = "wandb"  # by its own rule
WANDB_FILE = "wandb_run.txt"  # holds the id of the run


class Tracker(Protocol):
    """A destination of numbers."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""

    def close(self, failed: bool) -> None:
        """Write what is left; the run is over."""


class TensorBoard:
    """Curves in `<folder>/tensorboard`: `eval_<name>` as eval/<name>, all others as train/<name>."""

    @staticmethod
    def installed() -> bool:
        return importlib.util.find_spec("tensorboard") is not None

    def __init__(self, folder: Path, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._hook = threading.excepthook
        threading.excepthook = self._in_thread
        self._writer: Any = SummaryWriter(
            str(folder / TENSORBOARD_FOLDER), purge_step=start_step + 1
        )

    def record(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            name = key.removeprefix("eval_")
            group = "train" if name == key else "eval"
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()

    def close(self, failed: bool) -> None:
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._hook

    def _in_thread(self, failure: threading.ExceptHookArgs) -> None:
        """A full disk is met by TensorBoard's own thread; the next call of `record` raises it."""
        error = failure.exc_value
        if error is None or cannot_write(error, TENSORBOARD_FOLDER) is None:
            self._hook(failure)


class WeightsAndBiases:
    """A run of Weights & Biases, online, or with `WANDB_MODE=offline` in `<folder>/wandb` alone."""

    def __init__(self, folder: Path, start_step: int, options: Mapping[str, Any]) -> None:
        wandb = load_wandb()
        file = folder / WANDB_FILE
        known = file.read_text().strip() if start_step and file.exists() else None
        try:
            self._run = wandb.init(dir=str(folder), id=known, resume="allow", **options)
        except wandb.Error as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UserError(
                f"Weights & Biases did not start: {reason}; log in with `wandb login`, or record offline"
                " with WANDB_MODE=offline."
            ) from None
        file.write_text(f"{self._run.id}\n")

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def load_wandb() -> Any:
    """The package; UserError if it is not installed."""
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise missing("use_wandb", "wandb") from None


def missing(setting: str, package: str) -> UserError:
    """The error for a setting that needs a package which is not installed."""
    return UserError(
        f"{setting} needs the package {package}, which is not installed; install simscaleai[tracking] or"
        f" leave {setting} off."
    )
