"""Stress of a policy: arms with a matched control, and the report of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation import stress
from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.evaluation.statistics import mcnemar_p_value, newcombe_interval
from simscaleai.evaluation.stress import StressSettings, stress_policy
from simscaleai.evaluation.stress_axes import AXES
from simscaleai.rollout.policy_source import find_policy_source

Source = Any


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stress the expert in short episodes."""
    monkeypatch.chdir(tmp_path)

    def short(*args: Any) -> Source:
        source = find_policy_source(*args)
        return replace(source, config=replace(source.config, max_episode_steps=40, dt=0.01))

    monkeypatch.setattr(stress, "find_policy_source", short)

    def call(env_name: str, policy: str = "scripted", **given: Any) -> Any:
        settings = {"show_progress": False, "n_episodes": 4, "env_name": env_name, **given}
        return stress_policy(policy, StressSettings(**settings))

    call.short = short  # type: ignore[attr-defined]
    return call


def test_every_control_agrees_with_the_plain_evaluation(run: Any) -> None:
    levels = {name: replace(axis, levels=axis.levels[:1]) for name, axis in AXES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simscaleai.evaluation.stress_axes.AXES", levels)
        report = run("pick_place_color", n_episodes=2, seed=8)
    spec = EvalSpec("pick_place_color", seed=8)
    with PolicyRunner(run.short("scripted", "pick_place_color"), spec, 2) as runner:
        plain = sorted(runner.run(range(2)), key=lambda r: r.index)
    assert [axis.name for axis in report.axes] == list(AXES)
    left_out = {axis.name for axis in report.axes if axis.excluded}
    # the expert sees no images
    assert left_out == {"camera", "light", "colors", "image"}
    for axis in report.axes:
        if not axis.excluded:
            assert axis.arms[0].episodes == plain, axis.name
            assert axis.arms[0].level == 0 < axis.arms[1].level
            assert [e.seed for e in axis.arms[1].episodes] == [e.seed for e in plain]
            assert axis.arms[0].difference == 0 and axis.arms[0].p_value == 1


def test_an_arm_is_compared_with_its_control(run: Any) -> None:
    report = run("reach", axes=["action-delay"], levels=[1, 8], n_episodes=8)
    control, little, much = report.axes[0].arms
    assert [arm.level for arm in report.axes[0].arms] == [0, 1, 8]
    assert control.success.rate == 1 and much.success.rate < 0.9
    assert much.difference == much.success.rate - 1 == -much.pairs.only_first / 8
    assert much.interval == newcombe_interval(much.pairs)
    assert much.p_value == mcnemar_p_value(much.pairs)
    assert sum(much.failure_stages.values()) == much.pairs.only_first
    assert little.mean_length > control.mean_length


def test_counterfactual_instructions(run: Any) -> None:
    report = run("reach_color", axes=["counterfactual"])
    (axis,) = report.axes
    assert [arm.level for arm in axis.arms] == [0, 1, 2, 3]
    for arm, color in zip(axis.arms[1:], ("red", "green", "blue"), strict=True):
        assert {e.category for e in arm.episodes} == {color}
        assert arm.following["approached_right"]["count"] == 4
    # the expert follows: all instructions of all four scenes
    assert axis.strict["strict"]["count"] == axis.strict["strict_success"]["count"] == 4
    lost = run("reach_color", "random", axes=["counterfactual"])
    assert lost.axes[0].strict["strict"]["count"] < 4


def test_files(run: Any) -> None:
    report = run("reach", axes=["action-noise"])
    assert report.output_dir == "runs/stress/scripted"
    saved = json.loads(Path("runs/stress/scripted/stress.json").read_text())
    assert {k: saved[k] for k in report.to_dict()} == json.loads(json.dumps(report.to_dict()))
    assert [p.name for p in Path("runs/stress/scripted").iterdir()] == ["stress.json"]
    # other settings do not replace it
    assert run("reach", axes=["action-delay"]).output_dir == "runs/stress/scripted_2"
    with pytest.raises(UserError, match="holds another report"):
        run("reach", axes=["action-delay"], output_dir=report.output_dir)


def test_an_interrupted_run_resumes(run: Any, monkeypatch: Any) -> None:
    wanted = run("reach", axes=["action-noise"], output_dir="whole")
    arms: list[Any] = []
    play = PolicyRunner.run

    def stopped(self: PolicyRunner, *args: Any) -> Any:
        arms.append(self)
        for k, result in enumerate(play(self, *args)):
            if len(arms) == 2 and k == 2:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(PolicyRunner, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            run("reach", axes=["action-noise"], output_dir="half")
    begun = {p.name: p.read_text().count("\n") - 1 for p in Path("half").glob("*.jsonl")}
    assert begun == {"action-noise_0.partial.jsonl": 4, "action-noise_0.1.partial.jsonl": 2}
    assert run("reach", axes=["action-noise"], output_dir="half").axes == wanted.axes
    assert [p.name for p in Path("half").iterdir()] == ["stress.json"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"axes": ["frictoin"]}, "Did you mean 'friction'"),
        ({"axes": ["camera"]}, "'camera' means nothing here: the policy reads no images"),
        ({"axes": ["mass"]}, "'mass' means nothing here: nothing in the scene can be moved"),
        ({"axes": ["wording"]}, "the task holds no phrasings out"),
        ({"axes": ["counterfactual"]}, "the instruction does not choose among objects"),
        ({"levels": [1.0]}, "Levels are those of one axis"),
        ({"axes": ["action-delay"], "levels": [1.5]}, "whole numbers above 0"),
        ({"n_episodes": 0}, "n_episodes is 0"),
    ],
)
def test_mistakes(run: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run("reach", **given)


def test_curves(run: Any) -> None:
    pytest.importorskip("matplotlib")
    from simscaleai.tools.figures.stress_curves import plot_stress

    report = run("reach", axes=["action-delay", "action-noise"])
    panels = [panel for panel in plot_stress(report).axes if panel.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == ["action-delay", "action-noise"]
    for panel, axis in zip(panels, report.axes, strict=True):
        rates = panel.lines[1].get_ydata()
        assert list(rates) == [arm.success.rate for arm in axis.arms[1:]]
