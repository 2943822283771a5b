"""Evaluations at scale: recorded as they run, resumed, ended early, filmed."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation import EvalConfig, evaluate_policy
from simscaleai.evaluation.episode_log import EpisodeLog
from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source, until_narrow
from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_source import PolicySource, find_policy_source
from simscaleai.sim import make_vec_env
from tests import forked

QUIET: dict[str, Any] = {"show_progress": False, "env_name": "reach", "device": "cpu"}


def result(index: int, success: bool = True) -> EpisodeResult:
    stage = None if success else "never_reached"
    return EpisodeResult(index, 7 * index, success, success, -1.25, 9, stage)


def make_short(patch: pytest.MonkeyPatch) -> PolicySource:
    """The random policy, whose episodes take 12 steps, also for `evaluate_source`."""
    source = find_policy_source("random", "reach")
    source = replace(source, config=replace(source.config, max_episode_steps=12, dt=0.01))
    patch.setattr("simscaleai.evaluation.evaluate_source.find_policy_source", lambda *args: source)
    return source


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> PolicySource:
    return make_short(monkeypatch)


def settings(**given: Any) -> SourceEvaluation:
    return SourceEvaluation(**{**QUIET, **given})


def test_the_expert_by_name_is_the_expert() -> None:
    found = evaluate_source("scripted", settings(n_episodes=5, seed=3))
    env = make_vec_env("reach", 5, autoreset_mode="disabled")
    config = EvalConfig(n_episodes=5, seed=3)
    assert found["episodes"] == evaluate_policy(env, env.task.expert(), config)["episodes"]
    assert (found["checkpoint"], found["checkpoint_sha256"]) == ("scripted", "")
    assert found["output_path"] is None and found["success_rate"] == 1.0


def test_one_instruction_for_every_episode(tmp_path: Path, refused: Callable[..., str]) -> None:
    given = settings(env_name="reach_color", n_episodes=6, output_dir=str(tmp_path))
    asked = evaluate_source("scripted", replace(given, instruction="go to {the} BLUE thing"))
    assert list(asked["categories"]) == ["blue"] and asked["success_rate"] == 1.0
    other = evaluate_source("scripted", replace(given, instruction="red"))
    assert list(other["categories"]) == ["red"]
    assert asked["output_path"] != other["output_path"]  # and neither replaced the other
    vague = replace(given, instruction="red or blue")
    refused(lambda: evaluate_source("scripted", vague), "'red or blue'", "red, green, blue")
    plain = settings(instruction="go", n_episodes=1)
    refused(lambda: evaluate_source("scripted", plain), "'reach'", "asks for the same thing")
    both = replace(given, instruction="red", every_instruction=True)
    refused(lambda: evaluate_source("scripted", both), "leave out every_instruction")


def test_a_combination_in_the_words_of_the_user() -> None:
    given = settings(env_name="sort", n_episodes=3, instruction="blue to the middle")
    assert list(evaluate_source("scripted", given)["categories"]) == ["blue_middle"]


def test_episodes_do_not_depend_on_which_others_run(short: PolicySource) -> None:
    with PolicyRunner(short, EvalSpec(seed=1), 4) as runner:
        every = {r.index: r for r in runner.run(range(12))}
        some = {r.index: r for r in runner.run([9, 2, 11])}
    assert some == {i: every[i] for i in (9, 2, 11)}
    with PolicyRunner(short, EvalSpec(seed=1), 1) as single:
        assert list(single.run([5])) == [every[5]]


def test_every_instruction_by_name() -> None:
    given = settings(env_name="reach_color", n_episodes=2, every_instruction=True)
    found = evaluate_source("scripted", given)
    assert [e["index"] for e in found["episodes"]] == list(range(6))
    assert [e["category"] for e in found["episodes"]] == ["red", "green", "blue"] * 2
    assert found["following"]["strict"]["count"] == 2
    source = find_policy_source("scripted", "reach_color")
    with PolicyRunner(source, EvalSpec("reach_color", every_instruction=True), 3) as runner:
        assert [r.to_dict() for r in runner.run([4])] == [found["episodes"][4]]


# ending early


def test_until_the_interval_is_narrow() -> None:
    found = evaluate_source("scripted", settings(n_episodes=200, until_interval=0.2))
    # all of n succeed: the interval is 1 - n / (n + z^2) = 3.84 / (n + 3.84) wide, and 0.2 at n = 15.4
    assert found["n_episodes"] == 16 and found["max_episodes"] == 200
    assert found["success_ci"][1] - found["success_ci"][0] <= 0.2
    capped = evaluate_source("scripted", settings(n_episodes=10, until_interval=0.2))
    assert capped["n_episodes"] == 10


def test_episodes_count_in_the_order_of_the_suite() -> None:
    # failures end last, and are still among the first
    ended = [result(i) for i in range(3, 40)] + [result(i, False) for i in range(3)]
    taken = until_narrow(iter([*ended, *(result(i) for i in range(40, 200))]), 0.2)
    assert [r.index for r in taken] == list(range(len(taken)))
    assert sum(not r.success for r in taken) == 3
    # without the failures 16 would have been enough
    assert 16 < len(taken) < 40


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"until_interval": 0.0}, "until_interval is 0.0; it must be between 0 and 1"),
        ({"until_interval": 0.1, "every_instruction": True}, "leave out every_instruction"),
        ({"videos": "failure"}, "Did you mean 'failures'"),
        ({"n_episodes": 0}, "n_episodes is 0"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_source("scripted", settings(**given))


# resuming


def test_a_log_gives_back_what_was_written(tmp_path: Path) -> None:
    path, identity = tmp_path / "a.partial.jsonl", {"seed": 1, "ci": (0.5, 1.0)}
    with EpisodeLog(path, identity) as log:
        assert log.finished == {}
        for i in (2, 0):
            log.append(replace(result(i), reward=-0.1 - i, approached="right"))
    written = log.finished
    with path.open("a") as file:
        file.write('{"index": 5, "se')  # killed here
    with EpisodeLog(path, identity) as log:
        assert log.finished == written
        log.append(result(7))
    with EpisodeLog(path, identity) as log:
        assert log.finished.keys() == {0, 2, 7}
        with pytest.raises(UserError, match="Another process is running the evaluation"):
            EpisodeLog(path, identity).__enter__()
    with EpisodeLog(path, {"seed": 2}) as log:
        assert log.finished == {}
        log.delete()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        '{"index": "1"}',
        "[1, 2]",
        "{" * 5000,
        '{"index": 1, "seed": 1}',
        '{"extra": 1}',
        "\x00\xff",
        '{"index": true, "seed": 1}',
        " " * 200_000,
    ],
)
def test_a_damaged_log_is_read_as_far_as_it_is_whole(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.partial.jsonl"
    with EpisodeLog(path, {}) as log:
        log.append(result(3))
    with path.open("a") as file:
        file.write(f"{line}\n{json.dumps(result(4).to_dict())}\n")
    with EpisodeLog(path, {}) as log:
        assert log.finished == {3: result(3)}
    path.write_text(line)
    with EpisodeLog(path, {}) as log:
        assert log.finished == {}


def test_hostile_logs(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.partial.jsonl", random.Random(0)
    with EpisodeLog(path, {"seed": 1}) as log:
        for i in range(5):
            log.append(result(i))
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(damaged))
            damaged[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        path.write_bytes(damaged)
        with EpisodeLog(path, {"seed": 1}) as log:
            assert len(log.finished) <= 5
            log.append(result(7))
        with EpisodeLog(path, {"seed": 1}) as again:
            assert again.finished == log.finished
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="named pipe"):
        EpisodeLog(path, {}).__enter__()


def test_a_finished_evaluation_is_kept_on_request(tmp_path: Path) -> None:
    given = settings(n_episodes=3, output_dir=str(tmp_path))
    first = evaluate_source("scripted", given)
    path = Path(first["output_path"])
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["eval_info.json", path.name]
    path.write_text(json.dumps({**json.loads(path.read_text()), "mark": 1}))
    assert evaluate_source("scripted", replace(given, resume=True))["mark"] == 1
    assert "mark" not in evaluate_source("scripted", given)
    # another width is another evaluation, and has a file of its own
    narrow = replace(given, n_episodes=50, until_interval=0.4)
    other = evaluate_source("scripted", narrow)
    assert Path(other["output_path"]).name == "eval_info_scripted_reach_until0.4_seed0.json"
    assert evaluate_source("scripted", replace(narrow, resume=True)) == json.loads(
        json.dumps(other)
    )


def _random_policy(folder: Path) -> dict[str, Any]:
    return evaluate_source("random", settings(n_episodes=24, output_dir=str(folder), num_envs=5))


def _die_in_a_line(folder: Path, lines: int, part: float) -> None:
    """Evaluate, and be killed in a line of the log.

    Args:
      folder: of the evaluation.
      lines: that are written whole before.
      part: of the next line that is written, a share of its characters.
    """
    write, written = EpisodeLog._write_line, itertools.count()

    def die(self: EpisodeLog, values: Any) -> None:
        if next(written) < lines:
            return write(self, values)
        line = json.dumps(values)
        assert self._file is not None
        self._file.write(line[: round(part * len(line))])
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpisodeLog, "_write_line", die)
        make_short(patch)
        _random_policy(folder)


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_killed_at_ten_random_moments_and_resumed(
    short: PolicySource, tmp_path: Path, caplog: Any
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    undisturbed, moments = _random_policy(a), random.Random(0)
    recorded = []
    for _ in range(10):
        when = (moments.randint(0, 3), moments.random())
        assert forked.exit_code(_die_in_a_line, b, *when) == -signal.SIGKILL
        recorded.append(next(b.glob("*.jsonl")).read_bytes().count(b"\n") - 1)
    # killed before the first line and after it, and each time the episodes before are still there
    assert recorded == sorted(recorded) and 5 < recorded[-1] < 24
    resumed = _random_policy(b)
    assert "Resuming the evaluation" in caplog.text
    path = {"output_path": None}
    assert resumed | path == undisturbed | path
    files = [sorted(p.name for p in folder.iterdir()) for folder in (a, b)]
    assert files[0] == files[1] and len(files[0]) == 2


# videos


def test_videos_of_failures(short: PolicySource, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    given = settings(n_episodes=3, output_dir=str(tmp_path), videos="failures", max_videos=2)
    found = evaluate_source("random", given)
    names = [f"episode_{i}_never_reached.mp4" for i in (0, 1)]
    assert [Path(path).name for path in found["videos"]] == names
    assert all(Path(path).parent.parent == tmp_path for path in found["videos"])
    assert json.loads(Path(found["output_path"]).read_text())["videos"] == found["videos"]


class PressCtrlC:
    """A recorder that interrupts the evaluation when the first episode has ended."""

    def __init__(self) -> None:
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        def note(*args: Any, **kwargs: Any) -> None:
            self.steps += 1
            if self.steps > 40:
                raise KeyboardInterrupt

        return note


def test_ctrl_c_tells_what_was_counted(short: PolicySource, tmp_path: Path) -> None:
    few = settings(n_episodes=6, num_envs=1)
    with pytest.raises(KeyboardInterrupt, match=r"after [1-5] of 6 episodes: 0.0 % .* --output"):
        evaluate_source("random", few, [PressCtrlC()])
    kept = replace(few, output_dir=str(tmp_path))
    with pytest.raises(KeyboardInterrupt, match="run the same command again to resume"):
        evaluate_source("random", kept, [PressCtrlC()])
    found = evaluate_source("random", kept)
    assert found["episodes"] == evaluate_source("random", few)["episodes"]
