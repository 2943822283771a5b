from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.tools import cli


def test_bench_loader_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((20, 4), np.float32)
        file["data/demo_0/obs/ee_pos"] = np.zeros((20, 3), np.float32)
    with pytest.raises(SystemExit) as end:
        cli.main(["bench-loader", str(path), "--batch-size", "8", "--seconds", "0.1"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    for word in ("Batches of 8", "simscaleai, from memory", "per sample, from HDF5", "1.0 x"):
        assert word in out
    with pytest.raises(SystemExit) as end:
        cli.main(["bench-loader", str(tmp_path / "absent.h5")])
    assert end.value.code == 2
    assert "does not exist" in capsys.readouterr().err
