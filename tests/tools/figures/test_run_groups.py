"""Figures of several runs: seeds of one recipe together, recipes apart, nothing covered."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.tools.figures.metrics import read_metrics
from simscaleai.tools.figures.run_groups import find_runs, over_seeds, recipes
from simscaleai.tools.visualize import plot_rl_runs, plot_training_runs
from simscaleai.tracking import RunLog


def write(folder: Path, lr: float, seed: int, factor: float = 1.0) -> Path:
    with RunLog(folder, use_tensorboard=False) as log:
        for step in range(10, 110, 10):
            log.record(step, {"loss": factor / step, "eval_success_rate": factor * step / 400})
    (folder / "config.yaml").write_text(
        f"name: {folder.name}\nseed: {seed}\noptimizer: {{lr: {lr}}}\ndata: {{dataset: x/d.h5}}\n"
    )
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for seed in (0, 1, 2):
        write(tmp_path / "sweep" / f"slow_{seed}", 1e-4, seed, 1.0 + seed)
    write(tmp_path / "sweep" / "fast", 1e-3, 0)
    return tmp_path / "sweep"


def test_a_sweep_is_means_over_seeds_with_a_band(sweep: Path) -> None:
    figure = plot_training_runs([sweep])
    assert figure.get_suptitle() == "4 runs of 2 recipes"
    loss, success = figure.axes
    labels = [line.get_label() for line in success.lines]
    assert labels == ["lr=0.001", "lr=0.0001 (3 seeds: mean and range)"]
    mean = success.lines[1]
    np.testing.assert_allclose(mean.get_ydata(), 100 * 2.0 * np.arange(10, 110, 10) / 400)
    (band,) = success.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (100 * 10 / 400, 100 * 3.0 * 100 / 400)
    assert loss.get_yscale() == "log"
    # the legend is outside of the panels
    assert all(axes.get_legend() is None for axes in figure.axes)
    (legend,) = figure.legends
    figure.savefig(io.BytesIO())  # which lays it out
    low = min(axes.get_tightbbox().y0 for axes in figure.axes)
    assert legend.get_window_extent().y1 <= low + 1


def test_single_runs_are_drawn_as_before_and_names_work(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plot_training_runs([sweep / "fast"]).get_suptitle() == "Training of fast"
    monkeypatch.chdir(sweep.parent)
    (sweep.parent / "runs").symlink_to(sweep)
    assert find_runs(["fast", "runs/fast", "slow_1"])[0] == Path("runs/fast")
    with pytest.raises(UserError, match="is not there"):
        plot_training_runs(["fast", "missing"])
    with pytest.raises(UserError, match="viz-training"):
        plot_rl_runs([sweep / "fast"])


def test_runs_without_settings_are_apart(sweep: Path) -> None:
    for name in ("slow_0", "slow_1"):
        (sweep / name / "config.yaml").unlink()
    runs = [read_metrics(sweep / name) for name in ("slow_0", "slow_1")]
    assert list(recipes(runs)) == ["slow_0", "slow_1"]


def test_seeds_of_different_length_end_together() -> None:
    long = (np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 2.0]))
    short = (np.array([0.0, 10.0]), np.array([2.0, 1.0]))
    steps, low, mean, high = over_seeds([long, short])
    assert (steps[0], steps[-1]) == (0.0, 10.0)
    np.testing.assert_allclose(mean, 1.0)
    assert (low[0], high[0]) == (0.0, 2.0)
    apart = (np.array([30.0]), np.array([4.0]))
    steps, low, mean, high = over_seeds([short, apart])  # one point, which has a marker
    assert (steps, low, mean, high) == ([10.0], [1.0], [2.5], [4.0])
