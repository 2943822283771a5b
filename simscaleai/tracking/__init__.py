"""Records of a run besides its checkpoints: metrics by step, settings and versions."""

from __future__ import annotations

from simscaleai.tracking.log import RunLog
from simscaleai.tracking.run_info import write_run_info

__all__ = ["RunLog", "write_run_info"]
