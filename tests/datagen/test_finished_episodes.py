"""Finished episodes are found once each, as their parts appear."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from simscaleai.datagen import finished_episodes
from simscaleai.datagen.finished_episodes import FinishedEpisodes
from simscaleai.datagen.progress_bar import EpisodeCounts
from simscaleai.datagen.shards import ShardFolder, write_shard
from simscaleai.errors import UserError
from simscaleai.storage.episode import Episode


@pytest.fixture
def folder(tmp_path):
    made = ShardFolder(tmp_path / "a.h5")
    made.open({}, keep=False)
    yield made
    made.close()


def episode(index: int) -> Episode:
    steps = np.zeros(2, np.float32)
    return Episode(
        obs={},
        actions=np.zeros((2, 4), np.float32),
        rewards=steps,
        dones=steps > 0,
        states=np.zeros((2, 3)),
        index=index,
        seed=index,
        success=index % 2 == 0,
    )


def write(folder: ShardFolder, *indices: int) -> None:
    write_shard(folder.path, [episode(i) for i in indices], [True] * len(indices))


class Bar:
    def __init__(self) -> None:
        self.episodes = 0
        self.moved = threading.Event()

    def add(self, done: EpisodeCounts) -> None:
        self.episodes += done.episodes
        if done.episodes:
            self.moved.set()


def test_an_episode_that_two_workers_have_finished_counts_once(folder):
    write(folder, 0, 1)
    found = FinishedEpisodes(folder)
    write(folder, 1, 2)
    assert [each.index for each in found.update()] == [2]
    assert found.update() == []
    assert sorted(found.summaries) == [0, 1, 2]
    assert EpisodeCounts.of(found.summaries.values()) == (3, 2, 3)


def test_a_bar_moves_while_other_processes_write(folder, monkeypatch):
    monkeypatch.setattr(finished_episodes, "_LOOK_SECONDS", 0.01)
    found, bar = FinishedEpisodes(folder), Bar()
    with found.shown_by(bar):
        write(folder, 0)
        assert bar.moved.wait(30)
        write(folder, 1)
    assert bar.episodes == 2


def test_a_part_that_is_damaged_meanwhile_is_named_once(folder, monkeypatch):
    monkeypatch.setattr(finished_episodes, "_LOOK_SECONDS", 0.01)
    found = FinishedEpisodes(folder)
    with pytest.raises(UserError, match=r"b\.npz is damaged"), found.shown_by(Bar()):
        (folder.path / "b.npz").write_bytes(b"x")
