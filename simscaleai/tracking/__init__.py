"""What a run leaves behind besides its checkpoints: numbers by step, and where they came from."""

from __future__ import annotations

from simscaleai.tracking.log import RunLog
from simscaleai.tracking.run_info import write_run_info

__all__ = ["RunLog", "write_run_info"]
