from __future__ import annotations

from simscaleai.training.data.dataset import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader


def test_memory_needs_no_workers() -> None:
    assert make_loader(DummyTrajectoryDataset(20), 6, num_workers=4).num_workers == 0
