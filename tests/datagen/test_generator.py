"""What `generate_dataset` promises, on an environment without physics."""

from __future__ import annotations

import errno
import inspect
import itertools
import json

import h5py
import numpy as np
import pytest

from simscaleai.contract import EnvContract
from simscaleai.datagen import (
    content_hash,
    generate_dataset,
    generation_plan,
    shards,
)
from simscaleai.datagen.recipe import episode_seed
from simscaleai.datagen.worker import batch_width
from simscaleai.errors import ExistingFileError, MissingFileError, UserError
from simscaleai.storage.disk import CannotWriteError
from simscaleai.storage.episodes import open_dataset

pytestmark = pytest.mark.usefixtures("point_env")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "data" / "point.h5"


def generate(output, n=20, **changes):
    return generate_dataset("point", n, output, **{"policy_type": "scripted", **changes})


def test_documented_signature_and_keys(output):
    parameters = inspect.signature(generate_dataset).parameters
    documented = {
        "env_name": "reach",
        "n_episodes": 100,
        "output_path": "data/dataset.h5",
        "policy_type": "random",
        "domain_randomization": True,
        "max_steps": 200,
        "seed": 42,
    }
    assert {k: parameters[k].default for k in list(parameters)[: len(documented)]} == documented
    stats = generate(output)
    assert {
        "total_episodes",
        "total_steps",
        "mean_episode_length",
        "mean_reward",
        "success_rate",
        "output_path",
        "file_size_mb",
    } <= stats.keys()
    with open_dataset(output) as data:
        lengths = [e.length for e in data.episodes]
        returns = [data.read(i, "rewards").sum(dtype=float) for i in range(20)]
        wins = [e.success for e in data.episodes]
        assert stats["content_hash"] == data.attribute("content_hash")
    assert stats["total_episodes"] == 20
    assert stats["total_steps"] == sum(lengths)
    assert stats["mean_episode_length"] == pytest.approx(np.mean(lengths))
    assert stats["mean_reward"] == pytest.approx(np.mean(returns))
    assert stats["success_rate"] == np.mean(wins) == 1.0
    assert stats["file_size_mb"] == output.stat().st_size / 1e6
    assert stats["content_hash"] == content_hash(output)


def test_rows_of_an_episode_belong_together(output):
    """obs[t] and states[t] are before actions[t]; rewards[t] is what followed."""
    generate(output, n=30, num_envs=7, noise=0.3)
    with open_dataset(output) as data:
        for i, episode in enumerate(data.episodes):
            obs, target = data.read(i, "obs/position"), data.read(i, "obs/target")
            states, actions = data.read(i, "states"), data.read(i, "actions")
            assert episode.seed == episode_seed(42, i)
            np.testing.assert_array_equal(obs[0], 0)
            np.testing.assert_allclose(states[:, 0], 0.05 * np.arange(episode.length))
            np.testing.assert_allclose(states[:, 1:4], obs, atol=1e-7)
            # The recorded action is what the expert wants; what moved the point has noise on it.
            clean = np.clip((target - obs) / 0.05, -1, 1)
            np.testing.assert_allclose(actions[:, :3], clean, atol=1e-6)
            moved = np.diff(states[:, 1:4], axis=0)
            assert np.abs(moved - actions[:-1, :3] * 0.05).max() > 0.003
            after = -np.linalg.norm(target[1:] - obs[1:], axis=1)
            np.testing.assert_allclose(data.read(i, "rewards")[:-1], after, atol=1e-6)
            assert data.read(i, "dones").tolist() == [False] * (episode.length - 1) + [True]
            assert episode.language in ("go to the point", "find the point")


def test_content_does_not_depend_on_the_batch(tmp_path):
    settings = {"n": 40, "noise": 0.2, "max_steps": 9, "policy_type": "scripted"}
    hashes = set()
    for width in (1, 8, 64):
        path = tmp_path / f"{width}.h5"
        stats = generate(path, num_envs=width, **settings)
        assert 0 < stats["success_rate"] < 1  # some are cut off
        hashes |= {stats["content_hash"], content_hash(path)}
    assert len(hashes) == 1
    for change in ({"seed": 1}, {"noise": 0.1}, {"max_steps": 8}, {"n": 41}):
        assert (
            generate(tmp_path / "other.h5", overwrite=True, **{**settings, **change})[
                "content_hash"
            ]
            not in hashes
        )


@pytest.mark.parametrize("policy", ["random", "scripted"])
def test_episode_k_does_not_depend_on_how_many_there_are(tmp_path, policy):
    generate(tmp_path / "a.h5", n=5, policy_type=policy, noise=0.1, num_envs=2)
    generate(tmp_path / "b.h5", n=17, policy_type=policy, noise=0.1, num_envs=8)
    with open_dataset(tmp_path / "a.h5") as a, open_dataset(tmp_path / "b.h5") as b:
        assert [a.checksum(i) for i in range(5)] == [b.checksum(i) for i in range(5)]
        assert a.checksum(0) != a.checksum(1)


def test_randomization_is_recorded(output):
    generate(output, n=9, num_envs=4)
    with h5py.File(output) as file:
        for demo in file["data"].values():
            gain = json.loads(demo.attrs["randomization"])["gain"]
            assert gain == pytest.approx(demo["obs/target"][0, 0])
    generate(output, overwrite=True, domain_randomization=False)
    with h5py.File(output) as file:
        assert file["data/demo_0"].attrs["randomization"] == "{}"


def test_a_level_stands_above_the_switch(output, point_env):
    for switch, level, expected in (
        (True, None, "default"),
        (False, None, None),
        (False, "light", "light"),
        (True, "heavy", "heavy"),
    ):
        generate(output, 1, domain_randomization=switch, randomize=level, overwrite=True)
        assert point_env[-1].randomization == expected


def test_only_success_keeps_the_first_successes(tmp_path):
    settings = {"max_steps": 7, "noise": 0.1}
    everything = generate(tmp_path / "all.h5", n=60, **settings)
    assert 0.2 < everything["success_rate"] < 0.8
    with open_dataset(tmp_path / "all.h5") as data:
        wins = [e.seed for e in data.episodes if e.success][:12]
    hashes = set()
    for width in (1, 3, 8):
        stats = generate(
            tmp_path / f"{width}.h5", n=12, num_envs=width, only_success=True, **settings
        )
        with open_dataset(tmp_path / f"{width}.h5") as data:
            assert [e.seed for e in data.episodes] == wins
            assert all(e.success for e in data.episodes)
        assert stats["total_episodes"] == 12
        assert stats["success_rate"] == 1.0
        assert stats["attempt_success_rate"] == 12 / stats["attempts"] < 1
        hashes.add(stats["content_hash"])
    assert len(hashes) == 1


@pytest.mark.parametrize("only_success", [False, True])
def test_unstable_episodes_are_counted_and_replaced(tmp_path, unstable, only_success):
    generate(tmp_path / "all.h5", n=40, only_success=only_success)
    with open_dataset(tmp_path / "all.h5") as data:
        seeds = [e.seed for e in data.episodes]
    unstable(0.3)
    stable = [seed for seed in seeds if seed % 1000 >= 300][:20]
    made = [
        generate(tmp_path / f"{width}.h5", n=20, num_envs=width, only_success=only_success)
        for width in (1, 7, 64)
    ]
    with open_dataset(tmp_path / "7.h5") as data:
        assert [e.seed for e in data.episodes] == stable
    tried = seeds.index(stable[-1]) + 1
    for stats in made:
        assert stats["total_episodes"] == 20
        assert stats["attempts"] == tried
        assert stats["diverged"] == tried - 20 > 0
        assert stats["content_hash"] == made[0]["content_hash"]


def test_physics_that_is_unstable_in_most_episodes_is_refused(output, unstable):
    unstable(0.9)
    with pytest.raises(UserError, match=r"became unstable in \d\d of 100 episodes.*smaller dt"):
        generate(output, 40)
    assert not list(output.parent.iterdir())


def test_only_success_gives_up(output):
    with pytest.raises(UserError, match=r"Only 0 of 100 attempts .*'random' .*use a better policy"):
        generate(output, 2, policy_type="random", max_steps=3, only_success=True)
    assert not list(output.parent.iterdir())


def test_an_existing_output_is_refused(output):
    generate(output, 3)
    before = output.read_bytes()
    with pytest.raises(ExistingFileError, match=r"point\.h5 exists; .*--overwrite"):
        generate(output, 3)
    assert output.read_bytes() == before
    first = content_hash(output)
    assert generate(output, 4, overwrite=True)["total_episodes"] == 4
    assert content_hash(output) != first
    assert [p.name for p in output.parent.iterdir()] == ["point.h5"]


def test_batch_width():
    assert batch_width(100, 64) == 50
    assert batch_width(64, 64) == 64
    assert batch_width(65, 64) == 33
    assert batch_width(3, 64) == 3
    assert batch_width(1000, 1) == 1


def test_images_narrow_the_batch():
    contract = EnvContract("x", {}, {"image": (128, 128, 3)}, {"image": "uint8"}, 4, 0.05)
    # 512 MiB / (128 * 128 * 3 B * 200 steps) = 54.6 rows
    assert generation_plan.affordable_envs(64, contract, 200) == 54
    assert generation_plan.affordable_envs(64, contract, 20_000) == 1


def test_wrong_arguments_are_named_together(output):
    with pytest.raises(UserError) as caught:
        generate(output, 0, workers=0, noise=-1.0, valid_fraction=1.0, seed=-1)
    for name in ("n_episodes 0", "workers 0", "noise -1.0", "valid_fraction 1.0", "seed -1"):
        assert name in str(caught.value)
    with pytest.raises(
        MissingFileError, match=r"Unknown policy 'scriptd'.*Did you mean 'scripted'"
    ):
        generate(output, policy_type="scriptd")
    assert not output.parent.exists()


@pytest.mark.parametrize("written", [0, 2])
def test_a_full_disk_says_what_is_kept(output, monkeypatch, written):
    expected = generate(output.with_name("other.h5"))["content_hash"]
    monkeypatch.setattr(shards, "SHARD_EPISODES", 4)
    savez, calls = np.savez, itertools.count()

    def filling(file, **columns):
        if next(calls) >= written:
            raise OSError(errno.ENOSPC, "No space left on device")
        savez(file, **columns)

    monkeypatch.setattr(shards.np, "savez", filling)
    with pytest.raises(CannotWriteError, match="the disk is full") as caught:
        generate(output)
    kept = "No episode was saved yet; run the same command again."
    folder = output.with_name(output.name + ".parts")
    if written:
        kept = f"8 finished episodes are kept in {folder}; run the same command with --resume to go on."
    assert str(caught.value).endswith(kept)
    assert folder.exists() == bool(written)
    monkeypatch.setattr(shards.np, "savez", savez)
    assert generate(output, resume=True)["content_hash"] == expected
