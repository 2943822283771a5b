"""Interrupted data generation: resuming, overwriting, and damaged parts."""

from __future__ import annotations

import io
import itertools
import json
import os

import numpy as np
import pytest

from simscaleai.datagen import (
    Interrupted,
    content_hash,
    generate_dataset,
    shards,
    worker,
)
from simscaleai.errors import ExistingFileError, UserError
from tests import forked
from tests.datagen.point_env import make_point_envs

pytestmark = pytest.mark.usefixtures("point_env")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "data" / "point.h5"


def generate(output, n=20, **changes):
    return generate_dataset("point", n, output, **{"policy_type": "scripted", **changes})


class Kill(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def killed(output, point_env, monkeypatch):
    """A run of 40 episodes that ended after a few; the function runs on with other arguments."""

    def run(error=Kill, **changes):
        monkeypatch.setattr(shards, "SHARD_EPISODES", 4)
        make_env = worker.make_env

        def dying(job, n):
            env = make_env(job, n)
            step = env.step

            def count(action):
                env.deaths = getattr(env, "deaths", 0) + 1
                if env.deaths > 15:
                    raise error
                return step(action)

            env.step = count
            return env

        monkeypatch.setattr(worker, "make_env", dying)
        with pytest.raises(error if error is Kill else Interrupted) as caught:
            generate(output, 40, num_envs=8, **changes)
        monkeypatch.setattr(worker, "make_env", make_env)
        return caught.value

    return run


def test_resume_goes_on_where_it_ended(output, killed, tmp_path):
    expected = generate(tmp_path / "whole.h5", 40)["content_hash"]
    killed()
    assert not output.exists()
    with pytest.raises(ExistingFileError, match=r"unfinished run; go on with --resume"):
        generate(output, 40)
    stats = generate(output, 40, resume=True, num_envs=3)
    assert 0 < stats["resumed_episodes"] < 40
    assert stats["content_hash"] == content_hash(output) == expected
    assert [p.name for p in output.parent.iterdir()] == ["point.h5"]


def test_resume_of_only_success_fills_holes(output, killed, tmp_path):
    settings = {"max_steps": 7, "noise": 0.1, "only_success": True}
    expected = generate(tmp_path / "whole.h5", 40, **settings)["content_hash"]
    killed(**settings)
    assert generate(output, 40, resume=True, **settings)["content_hash"] == expected


def _die_before_an_operation(k, output, settings):
    """Generate; the process vanishes right before its k-th change of the disk, with the exit code 9."""
    countdown = itertools.count(k, -1)
    with pytest.MonkeyPatch.context() as patch:
        make_point_envs(patch)
        patch.setattr(shards, "SHARD_EPISODES", 4)
        for name in ("fsync", "replace", "unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, _deadly(getattr(os, name), countdown))
        generate(output, **settings)
        os._exit(0)


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_death_before_any_file_operation(output, tmp_path, monkeypatch, stride):
    """A process that vanishes right before its k-th change of the disk, for every k, or every 7th."""
    monkeypatch.setattr(shards, "SHARD_EPISODES", 4)
    settings = {"n": 12, "num_envs": 8, "show_progress": False}
    expected = generate(tmp_path / "whole.h5", **settings)["content_hash"]
    for k in itertools.count(0, stride):
        code = forked.exit_code(_die_before_an_operation, k, output, settings)
        stray = [p.name for p in output.parent.iterdir()] if output.parent.exists() else []
        assert len(stray) <= 3
        if output.exists():
            assert content_hash(output) == expected
        stats = generate(output, resume=True, **settings)
        assert stats["content_hash"] == content_hash(output) == expected
        assert [p.name for p in output.parent.iterdir()] == ["point.h5"]
        output.unlink()
        if code == 0:
            break
        assert code == 9
    assert k > 20  # 12 episodes in 3 parts: that many operations there were


def _deadly(function, countdown):
    def call(*args, **kwargs):
        if next(countdown) == 0:
            os._exit(9)
        return function(*args, **kwargs)

    return call


def test_overwrite_drops_an_unfinished_run(output, killed):
    killed()
    assert generate(output, 5, overwrite=True)["resumed_episodes"] == 0
    assert [p.name for p in output.parent.iterdir()] == ["point.h5"]


def test_resume_with_other_arguments_lists_the_differences(output, killed):
    killed()
    for _ in range(2):  # first against the parts, then against the finished file
        with pytest.raises(UserError, match=r"other settings") as caught:
            generate(output, 41, resume=True, noise=0.5)
        assert "n_episodes: 40 instead of 41" in str(caught.value)
        assert "noise: 0.0 instead of 0.5" in str(caught.value)
        assert "seed" not in str(caught.value)
        generate(output, 40, resume=True)


def test_resume_of_a_complete_file_does_nothing(output, point_env):
    first = generate(output, 6)
    before = output.stat()
    point_env.clear()
    again = generate(output, 6, resume=True, num_envs=2)
    assert sum(env.row_steps for env in point_env) == 0
    assert output.stat().st_mtime_ns == before.st_mtime_ns
    for key in first.keys() - {"seconds", "resumed_episodes"}:
        assert again[key] == first[key]


def test_resume_without_anything_begins(output):
    assert generate(output, 3, resume=True)["total_episodes"] == 3


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(output, killed):
    error = killed(KeyboardInterrupt)
    kept = int(str(error).split()[1])
    assert kept > 0
    assert "--resume to go on" in str(error)
    assert isinstance(error, KeyboardInterrupt)
    assert generate(output, 40, resume=True)["resumed_episodes"] == kept


def test_overwriting_keeps_the_old_file_until_the_new_one_is_complete(output, killed):
    generate(output, 2)
    old = content_hash(output)
    error = killed(KeyboardInterrupt, overwrite=True)
    assert "--resume --overwrite" in str(error)
    assert content_hash(output) == old
    stats = generate(output, 40, resume=True, overwrite=True)
    assert stats["resumed_episodes"] > 0
    assert content_hash(output) == stats["content_hash"] != old


def test_a_second_process_on_the_same_output_is_refused(output, monkeypatch):
    run_episodes = worker.run_episodes

    def meanwhile(*args, **kwargs):
        with pytest.raises(UserError, match="Another process is generating"):
            generate(output, 5, resume=True)
        return run_episodes(*args, **kwargs)

    monkeypatch.setattr(worker, "run_episodes", meanwhile)
    generate(output, 5)


def _flip(raw):
    """One bit of the last array, far from the list of episodes."""
    at = raw.rindex(b"states.npy", 0, raw.rindex(b"PK\x01\x02", 0, len(raw) - 200)) + 400
    return raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]


def _other_version(raw):
    with np.load(io.BytesIO(raw)) as columns:
        arrays = dict(columns)
    listed = [{**about, "temperature": 1} for about in json.loads(str(arrays["episodes"]))]
    out = io.BytesIO()
    np.savez(out, **{**arrays, "episodes": np.array(json.dumps(listed))})
    return out.getvalue()


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:100], lambda raw: b"", lambda raw: b"x" * len(raw), _flip, _other_version],
    ids=["cut", "empty", "noise", "bit", "version"],
)
def test_a_damaged_part_is_named_and_made_again(output, killed, damage, capfd):
    killed()
    folder = output.parent / "point.h5.parts"
    part = max(folder.glob("*.npz"), key=lambda path: path.stat().st_size)
    part.write_bytes(damage(part.read_bytes()))
    made = generate(output, 40, resume=True)
    assert made["total_episodes"] == 40
    assert f"{part.name} is damaged" in capfd.readouterr().err.replace("\n", "")
    whole = generate(output.with_name("whole.h5"), 40)
    assert made["content_hash"] == whole["content_hash"]


@pytest.mark.parametrize("shard_episodes", [None, 4])
def test_a_defect_in_the_first_step_leaves_nothing_in_the_way(output, monkeypatch, shard_episodes):
    place = output if shard_episodes is None else output.with_suffix("")
    make_env = worker.make_env

    def broken(job, n):
        env = make_env(job, n)
        env.step = lambda action: 1 / 0
        return env

    monkeypatch.setattr(worker, "make_env", broken)
    with pytest.raises(ZeroDivisionError):
        generate(place, 8, shard_episodes=shard_episodes)
    monkeypatch.setattr(worker, "make_env", make_env)
    assert generate(place, 8, shard_episodes=shard_episodes)["total_episodes"] == 8
