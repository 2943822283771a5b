"""Curves of a run: the right numbers on the right axes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.rl.agents.metric_group import MetricGroup
from simscaleai.rl.agents.ppo_metrics import METRIC_GROUPS
from simscaleai.tools.figures.curves import plot_rl, plot_training, smooth
from simscaleai.tracking import RunLog

STEPS = range(100, 20_100, 100)


def write(folder: Path, values: Any, evaluations: Any, config: str) -> Path:
    with RunLog(folder, use_tensorboard=False) as log:
        for step in STEPS:
            log.record(step, values(step))
            if step % 5000 == 0:
                log.record(step, evaluations(step))
    (folder / "config.yaml").write_text(config)
    return folder


@pytest.fixture
def training(tmp_path: Path) -> Path:
    return write(
        tmp_path / "a",
        lambda step: {"loss": 100 / step, "lr": 1e-3, "samples_per_second": 3e4 + step},
        lambda step: {"eval_loss": 200 / step, "eval_success_rate": step / 20_000},
        "model: {name: bc}\neval: {env_episodes: 8}",
    )


@pytest.fixture
def rl(tmp_path: Path) -> Path:
    groups = [asdict(group) for group in METRIC_GROUPS]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run_info.json").write_text(
        json.dumps([{}, {"metric_groups": [*groups, {"title": "broken"}, 3]}])
    )
    numbers = {"value_loss": 1.0, "approx_kl": 0.01, "clip_fraction": 0.1, "action_std": 0.5}
    return write(
        tmp_path / "b",
        lambda step: {
            "timesteps": step,
            "policy_loss": -0.01,
            "explained_variance": 0.5,
            "episode_reward": step / 100,
            "episode_length": 50.0,
            "reward/reach": -1.0,
            "reward/success": 0.5,
            **numbers,
        },
        lambda step: {"eval_success_rate": 0.5, "eval_mean_reward": 7.0, "eval_mean_length": 9.0},
        "env_name: reach\neval_episodes: 10\nagent: {name: ppo}",
    )


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def lines(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.lines}


def check_texts(figure: Any) -> None:
    """Legends are below their panels, and no number is written as a formula."""
    figure.canvas.draw()
    legends = [(axes, axes.get_legend()) for axes in figure.axes if axes.get_legend()]
    assert legends
    for axes, legend in legends:
        assert legend.get_window_extent().y1 < axes.get_window_extent().y0
    ticks = [t.get_text() for axes in figure.axes for t in axes.get_yticklabels()]
    offsets = [axes.yaxis.get_offset_text().get_text() for axes in figure.axes]
    assert not any("$" in text for text in ticks + offsets)


def test_training(training: Path) -> None:
    figure = plot_training(training)
    assert figure.get_suptitle() == "Training of bc: a"
    found = panels(figure)
    assert list(found) == [
        *("Loss", "Success of 8 episodes in closed loop", "Learning rate", "Speed"),
    ]
    raw, smoothed, validation = found["Loss"].lines
    np.testing.assert_array_equal(raw.get_xdata(), STEPS)
    np.testing.assert_allclose(raw.get_ydata(), 100 / np.array(STEPS))
    assert smoothed.get_label() == "training" and len(smoothed.get_ydata()) == len(STEPS)
    np.testing.assert_allclose(validation.get_ydata(), 200 / np.array([5e3, 1e4, 1.5e4, 2e4]))
    assert found["Loss"].get_yscale() == "log"
    success = found["Success of 8 episodes in closed loop"]
    assert lines(success)["success"].get_ydata().tolist() == [25, 50, 75, 100]
    band = success.collections[0].get_paths()[0].vertices[:, 1]
    for count in (2, 4, 6, 8):
        for bound in wilson_interval(count, 8):
            assert np.isclose(band, 100 * bound).any()
    assert all(axes.get_ylabel() for axes in found.values())
    assert found["Speed"].get_xlabel() == "optimizer steps"
    check_texts(figure)


def test_rl(rl: Path) -> None:
    figure = plot_rl(rl)
    assert figure.get_suptitle() == "PPO on reach: b"
    found = panels(figure)
    assert len(found) == 9
    returns = lines(found["Return"])
    np.testing.assert_allclose(found["Return"].lines[0].get_ydata(), np.array(STEPS) / 100)
    assert returns["evaluation"].get_ydata().tolist() == [7.0] * 4
    assert set(lines(found["Terms of the reward"])) >= {"reach", "success"}
    assert found["Success of 10 episodes in closed loop"].get_ylim()[1] > 100
    assert all(axes.get_ylabel() and axes.lines for axes in found.values())
    assert set(lines(found["Change of the policy"])) >= {
        "fraction of samples clipped",
        "KL divergence (nats)",
    }
    assert found["Change of the policy"].get_yscale() == "log"
    assert found["Noise of the actions"].get_ylim()[0] == 0
    assert found["Explained variance of the value"].lines[-1].get_ydata() == [1.0, 1.0]
    check_texts(figure)


def test_rl_of_another_agent(rl: Path) -> None:
    groups = [asdict(MetricGroup("Value loss", "mine", {"value_loss": "error", "no": "absent"}))]
    (rl / "run_info.json").write_text(json.dumps([{"metric_groups": groups}]))
    (rl / "config.yaml").write_text("agent: {name: mine}")
    figure = plot_rl(rl)
    assert figure.get_suptitle() == "MINE: b"
    found = panels(figure)
    titles = ["Return", "Success in closed loop", "Length of an episode"]
    assert list(found) == [*titles, "Value loss", "Terms of the reward"]
    assert list(lines(found["Value loss"]))[-1] == "error"
    assert found["Terms of the reward"].get_xlabel() == found["Length of an episode"].get_xlabel()
    assert found["Return"].get_xlabel() == ""


def test_a_run_of_few_records(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "loss": 0.0, "action_mae": 1.0}')
    found = panels(plot_training(tmp_path))
    assert found["Loss"].get_yscale() == "linear"
    assert lines(found["Error of the action"])["training"].get_ydata().tolist() == [1.0]
    assert lines(found["Error of the action"])["training"].get_marker() == "o"  # else invisible
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "timesteps": 5, "success_rate": 0.5}')
    found = panels(plot_rl(tmp_path))
    assert lines(found["Success in training"])["training"].get_ydata().tolist() == [50.0]


def test_the_other_kind_of_run_is_named(training: Path, rl: Path) -> None:
    with pytest.raises(UserError, match="viz-rl"):
        plot_training(rl)
    with pytest.raises(UserError, match="viz-training"):
        plot_rl(training)


def test_smoothing_keeps_straight_lines_and_means() -> None:
    np.testing.assert_allclose(smooth(np.arange(9.0), 3), np.arange(9.0))
    np.testing.assert_allclose(smooth(np.array([0.0, 3.0, 0.0, 9.0]), 1), [0.0, 1.0, 4.0, 9.0])
    np.testing.assert_array_equal(smooth(np.array([1.0, 5.0]), 0), [1.0, 5.0])
