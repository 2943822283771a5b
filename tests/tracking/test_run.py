"""What a run says when it cannot go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from simscaleai.storage.disk import CannotWriteError
from simscaleai.tracking.run import Run


def test_a_full_disk_is_told_once_with_what_is_kept(tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    full = CannotWriteError("Cannot write x: the disk is full.")
    for saved, kept in (
        (None, "There is no checkpoint yet; run the same command again."),
        ((7, Path("y.pt")), "The checkpoint of step 7 is kept, y.pt; resume with --resume auto."),
    ):
        run.saved = saved
        # as `train_policy` around `Trainer.train`
        with pytest.raises(CannotWriteError) as caught, run.at_work(), run.at_work():
            raise full
        assert str(caught.value) == f"{full} {kept}"
