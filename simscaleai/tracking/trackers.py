"""TensorBoard and Weights & Biases.

Both write to the run folder, and a resumed run continues its curves: TensorBoard purges the steps that will
be repeated, and Weights & Biases gets the same run id again.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.disk import cannot_write

TENSORBOARD_FOLDER = "tensorboard"
WANDB_FOLDER = "wandb"  # wandb chooses this name
WANDB_FILE = "wandb_run.txt"  # contains the run id

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Tracker(Protocol):
    """A destination of metrics."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""

    def close(self, failed: bool) -> None:
        """Write remaining values; the run has ended."""


class TensorBoard:
    """Writer of `<folder>/tensorboard`: `eval_<name>` as eval/<name>, all others as train/<name>."""

    @staticmethod
    def installed() -> bool:
        return importlib.util.find_spec("tensorboard") is not None

    def __init__(self, folder: Path, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard writes in a thread of its own, whose errors would print a traceback
        self._hook = threading.excepthook
        threading.excepthook = self._in_thread
        self._writer: SummaryWriter = SummaryWriter(
            str(folder / TENSORBOARD_FOLDER), purge_step=start_step + 1
        )

    def record(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            name = key.removeprefix("eval_")
            group = "train" if name == key else "eval"
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()  # also raises the error of the thread

    def close(self, failed: bool) -> None:
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._hook

    def _in_thread(self, failure: threading.ExceptHookArgs) -> None:
        """Ignore a full disk in TensorBoard's thread: the next call of `record` raises the error."""
        error = failure.exc_value
        if error is None or cannot_write(error, TENSORBOARD_FOLDER) is None:
            self._hook(failure)


class WeightsAndBiases:
    """Run of Weights & Biases, online or, with `WANDB_MODE=offline`, only in `<folder>/wandb`."""

    def __init__(self, folder: Path, start_step: int, options: JsonDict) -> None:
        wandb = load_wandb()
        file = folder / WANDB_FILE
        # None: a new run gets a new id, also in the folder of an earlier one
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


def load_wandb() -> ModuleType:
    """Return the module; UserError if it is not installed."""
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise missing("use_wandb", "wandb") from None


def missing(setting: str, package: str) -> UserError:
    """Return the error for a setting that needs a missing package."""
    return UserError(
        f"{setting} needs the package {package}, which is not installed; install simscaleai[tracking] or"
        f" leave {setting} off."
    )
