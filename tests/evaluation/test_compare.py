"""Comparisons on the same starts: verdicts, what they rest on, and the files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation import compare
from simscaleai.evaluation.compare import CompareSettings, compare_policies, same_environment
from simscaleai.evaluation.comparison import stage_index
from simscaleai.evaluation.confidence_sequence import Verdict
from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.evaluation.report_folder import short_names
from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_source import find_policy_source

POLICIES = '''
"""Policies of reach, as fast as the action allows; some give up where the target is on the left."""
import numpy as np

def good(obs):
    move = (obs["target_pos"] - obs["ee_pos"]) / 0.05
    return np.concatenate([np.clip(move, -1, 1), np.zeros((len(move), 1))], axis=1)

def also_good(obs):
    return good(obs)

def right_only(obs):
    return np.where(obs["target_pos"][:, 1:2] > 0.12, 0.0, good(obs))
'''


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compare functions of `POLICIES` in short episodes of reach."""
    (tmp_path / "reach_policies.py").write_text(POLICIES)
    monkeypatch.chdir(tmp_path)

    def short(*args: Any) -> Any:
        source = find_policy_source(*args)
        return replace(source, config=replace(source.config, max_episode_steps=25, dt=0.01))

    monkeypatch.setattr(compare, "find_policy_source", short)

    def call(*names: str, **given: Any) -> Any:
        policies = [f"reach_policies:{name}" if name in POLICIES else name for name in names]
        settings = CompareSettings(**{"show_progress": False, "env_name": "reach", **given})
        return compare_policies(policies, settings)

    return call


def test_a_policy_that_gives_up_on_one_side(run: Any) -> None:
    report = run("good", "right_only")
    (found,) = report.comparisons
    assert found.verdict is Verdict.REGRESSED and found.pairs.only_second == 0
    # what the verdict rests on is what the policies did in those episodes
    n = found.n_episodes
    good, other = (episodes[:n] for episodes in report.episodes.values())
    wins = sum(e.success for e in good), sum(e.success for e in other)
    assert (
        found.baseline_success.successes == wins[0] and found.candidate_success.rate == wins[1] / n
    )
    assert found.candidate_success.interval == wilson_interval(wins[1], n)
    assert found.difference == (wins[1] - wins[0]) / n == -found.pairs.only_first / n
    assert found.interval[0] < found.difference < found.interval[1] < 0
    assert [e.index for e in found.differing] == [
        a.index for a, b in zip(good, other, strict=True) if a.success and not b.success
    ]
    assert all((e.baseline, e.candidate) == ("success", "never_reached") for e in found.differing)
    length = found.changes["length"]
    assert length.difference == pytest.approx(sum(e.length for e in other) / n - length.baseline)
    assert length.p_value < 0.05 and length.interval[0] > 0
    assert found.changes["stage"].difference == found.difference  # of one stage
    # no wave but the last had a verdict before
    assert 0 <= len(report.episodes["reach-policies-good"]) - n < report.settings.num_envs


def test_starts_are_those_of_eval(run: Any) -> None:
    report = run("good", "right_only", seed=5)
    with PolicyRunner(find_policy_source("scripted", "reach"), EvalSpec(seed=5), 4) as runner:
        seeds = [r.seed for r in sorted(runner.run(range(4)), key=lambda r: r.index)]
    for episodes in report.episodes.values():
        assert [e.seed for e in episodes[:4]] == seeds


def test_policies_that_act_alike_are_the_same(run: Any) -> None:
    report = run("good", "also_good", "right_only", "scripted", min_difference=0.1, num_envs=8)
    verdicts = {c.candidate.split(":")[-1]: c for c in report.comparisons}
    assert verdicts["also_good"].verdict is Verdict.SAME
    assert verdicts["right_only"].verdict is Verdict.REGRESSED
    assert verdicts["scripted"].verdict is Verdict.SAME
    assert "SAME WITHIN 10 %" in verdicts["also_good"].sentence(0.1)
    # three candidates share alpha
    assert {c.alpha for c in report.comparisons} == {0.05 / 3}
    # a candidate with a verdict is not run any more
    assert len(report.episodes["reach-policies-right-only"]) < len(
        report.episodes["reach-policies-good"]
    )


def test_the_order_of_ends_does_not_matter(run: Any) -> None:
    found = [run("good", "right_only", num_envs=n).comparisons[0] for n in (3, 32)]
    assert found[0] == found[1]


def test_undecided(run: Any) -> None:
    found = run("good", "right_only", max_episodes=6).comparisons[0]
    assert found.verdict is Verdict.UNDECIDED and found.n_episodes == 6
    assert found.sentence(0.05) == "UNDECIDED after 6 episodes"


def test_files(run: Any) -> None:
    report = run("good", "right_only")
    folder = Path("runs/compare/reach-policies-good_reach-policies-right-only")
    assert Path(report.output_dir) == folder
    assert sorted(p.name for p in folder.iterdir()) == ["comparison.json", "episodes.csv"]
    saved = json.loads((folder / "comparison.json").read_text())
    assert {k: saved[k] for k in report.to_dict()} == json.loads(json.dumps(report.to_dict()))
    rows = list(csv.DictReader((folder / "episodes.csv").open()))
    episodes = report.episodes["reach-policies-right-only"]
    assert [row["reach-policies-right-only_success"] for row in rows] == [
        str(e.success) for e in episodes
    ]
    # made again it replaces them; another comparison does not
    assert run("good", "right_only").output_dir == report.output_dir
    assert run("good", "right_only", seed=1).output_dir == f"{report.output_dir}_2"
    with pytest.raises(UserError, match=r"holds another report; .* --output"):
        run("good", "right_only", seed=2, output_dir=report.output_dir)


def test_an_interrupted_comparison_resumes(run: Any, monkeypatch: Any) -> None:
    wanted = run("good", "right_only", output_dir="whole")
    play, calls = PolicyRunner.run, iter(range(100))

    def stopped(self: PolicyRunner, *args: Any) -> Any:
        for k, result in enumerate(play(self, *args)):
            if next(calls) > 40:
                raise KeyboardInterrupt
            assert k < 32
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(PolicyRunner, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            run("good", "right_only", output_dir="half")
    assert len(list(Path("half").glob("*.jsonl"))) == 2
    found = run("good", "right_only", output_dir="half")
    assert found.comparisons == wanted.comparisons and found.episodes == wanted.episodes
    assert sorted(p.name for p in Path("half").iterdir()) == ["comparison.json", "episodes.csv"]


def test_videos_side_by_side(run: Any) -> None:
    pytest.importorskip("imageio_ffmpeg")
    (found,) = run("good", "right_only", videos=1).comparisons
    (path,) = found.videos
    assert Path(path).name == f"episode_{found.differing[0].index}.mp4"
    assert Path(path).stat().st_size > 1000


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["good"], {}, "at least two policies"),
        (["good", "good"], {"alpha": 0.0}, "alpha is 0.0; it must be between 0 and 1"),
        (["good", "good"], {"min_difference": 1.0}, "min_difference is 1.0"),
        (["good", "good"], {"max_episodes": 0}, "n_episodes is 0"),
        (["good", "bad"], {}, "Unknown policy 'bad'"),
    ],
)
def test_mistakes(run: Any, names: list[str], given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(*names, **given)


def test_environments_that_differ_are_refused() -> None:
    first = find_policy_source("scripted", "reach")
    trained: Any = replace(first, model=object(), name="a")
    slower = replace(trained, name="b", config=replace(trained.config, dt=0.01, cameras=[]))
    with pytest.raises(UserError, match=r"a and b act in environments that differ: dt 0.002 and"):
        same_environment([trained, slower])
    # cameras do not matter, and a policy without an environment takes that of the others
    seeing = replace(trained, config=replace(trained.config, observe_depth=True))
    other = find_policy_source("random", "pick_place")
    fitted = same_environment([other, seeing, trained])
    assert [source.env_name for source in fitted] == ["reach"] * 3
    assert not fitted[0].config.observe_depth and fitted[1].config.observe_depth


def test_short_names() -> None:
    assert short_names(["runs/a/checkpoints/final.pt", "runs/b/checkpoints/best.pt"]) == [
        "a",
        "b-best",
    ]
    assert short_names(["scripted", "scripted"]) == ["scripted-1", "scripted-2"]
    assert short_names(["/x/y/z/final.pt", "final.pt"]) == ["y-z", "policy"]


def test_stage_index() -> None:
    def episode(success: bool, stage: str | None) -> EpisodeResult:
        return EpisodeResult(0, 0, success, success, 0.0, 1, stage)

    stages = ("never_reached", "dropped")
    found = [
        stage_index(episode(*e), stages)
        for e in ((True, None), (False, "dropped"), (False, "never_reached"), (False, "diverged"))
    ]
    assert found == [2, 1, 0, -1]
