"""Samples with an instruction drawn anew: what they ask for, and how much of a chunk is known."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.episode import Episode
from simscaleai.storage.episodes import EpisodeWriter
from simscaleai.training import TrainConfig, train_policy
from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.data.relabeling import OWN, Relabeling, own_requests

SENTENCES = {"red": ("take red", "red please"), "blue": ("take blue", "blue please", "blue")}
LENGTHS = (4, 3)  # of episode 0, which asks for blue, and episode 1, which asks for red
OWN_REQUESTS = (1, 0)


def label(episode: int, step: int, request: int) -> float:
    """Return a number that says where a label is from: -0.35 is episode 0, step 3, request 1."""
    return (0.05 + episode / 2 + step / 10) * (-1 if request else 1)


def write(path: Path, *, labels: bool = True, image_size: int = 0) -> Path:
    shapes: dict[str, tuple[int, ...]] = {"ee_pos": (1,)}
    dtypes = {"ee_pos": "float32"}
    if image_size:
        shapes["image"], dtypes["image"] = (image_size, image_size, 3), "uint8"
    contract = EnvContract("colors", {}, shapes, dtypes, 1, 0.05, instructions=SENTENCES)
    with EpisodeWriter(path, contract, splits={"train": [0, 1]}) as writer:
        for i, length in enumerate(LENGTHS):
            steps = np.arange(length)
            named = [[[label(i, t, k)] for k in range(2)] for t in steps]
            all_labels = np.array(named, np.float32)  # (T, 2, 1)
            images = np.random.default_rng(i).integers(0, 256, (length, *shapes.get("image", ())))
            obs = {"ee_pos": (10 * i + steps[:, None]).astype(np.float32)}
            if image_size:
                obs["image"] = images.astype(np.uint8)
            episode = Episode(
                obs=obs,
                actions=all_labels[:, OWN_REQUESTS[i]],
                rewards=np.zeros(length, np.float32),
                dones=steps == length - 1,
                states=np.zeros((length, 2)),
                actions_by_instruction=all_labels if labels else None,
                language=list(SENTENCES.values())[OWN_REQUESTS[i]][0],
            )
            writer.add(i, episode)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "data.h5")


def test_an_epoch_has_every_step_with_every_request_once(path: Path) -> None:
    data = TrajectoryDataset(path, include_language=True, relabel=1.0)
    assert len(data) == 7 * 2
    seen = Counter()
    for i in range(len(data)):
        sample = data[i]
        episode, step = divmod(int(sample["observations"]["state"]), 10)
        request = own_requests([sample["language"]], list(SENTENCES.values()))[0]
        assert float(sample["actions"]) == pytest.approx(label(episode, step, request))
        seen[episode, step, request] += 1
    pairs = {(e, t, k) for e, length in enumerate(LENGTHS) for t in range(length) for k in (0, 1)}
    assert seen == Counter(pairs)


def test_the_instruction_of_an_episode_keeps_its_chunk_and_others_know_one_action(
    path: Path,
) -> None:
    data = TrajectoryDataset(path, seq_len=3, include_language=True, relabel=1.0)
    own, other = data[2 * 1 + 1], data[2 * 1 + 0]  # step 1 of episode 0, asked for blue and for red
    assert "blue" in own["language"] and "red" in other["language"]
    # labels of steps 1, 2 and 3 for blue; the label of step 1 for red, and nothing is known after it
    torch.testing.assert_close(own["actions"], torch.tensor([[-0.15], [-0.25], [-0.35]]))
    torch.testing.assert_close(other["actions"], torch.tensor([[0.15], [0.15], [0.15]]))
    assert own["mask"].tolist() == [True, True, True]
    assert other["mask"].tolist() == [True, False, False]
    last = data[2 * 3 + 1]  # the last step of episode 0: the window ends with the episode
    assert last["mask"].tolist() == [True, False, False]
    torch.testing.assert_close(last["actions"], torch.tensor([[-0.35]] * 3))


def test_every_phrasing_is_drawn_and_a_sample_stays_what_it_is() -> None:
    labels, own = torch.zeros(4000, 2, 1), torch.zeros(4000, dtype=torch.int64)
    sentences = list(SENTENCES.values())
    relabeling = Relabeling(labels, sentences, own, fraction=0.25, seed=3)
    indices = torch.arange(len(relabeling))
    steps, requests = relabeling.draw(indices)
    assert steps.tolist() == sorted([*range(4000)] * 2)
    drawn = (requests != OWN).float().mean()
    assert abs(drawn - 0.25) < 0.02  # of 8,000: standard deviation sqrt(0.25 x 0.75 / 8000) = 0.005
    said = relabeling.instructions(indices, requests, ["recorded"] * 8000)
    counts = Counter(said)
    assert counts["recorded"] == int((requests == OWN).sum())
    for request, each in enumerate(sentences):
        expected = int((requests == request).sum()) / len(each)
        assert all(abs(counts[s] - expected) < 0.15 * expected for s in each), counts
    again = Relabeling(labels, sentences, own, fraction=0.25, seed=3)
    some = torch.tensor([17, 4, 7999])
    assert again.draw(some)[1].tolist() == requests[some].tolist()
    assert again.instructions(some, requests[some], ["recorded"] * 3) == [said[i] for i in some]


def test_an_unknown_instruction_knows_one_action_of_any_request() -> None:
    own = torch.tensor(own_requests(["something else"] * 3, list(SENTENCES.values())))
    assert own.tolist() == [OWN] * 3
    relabeling = Relabeling(torch.rand(3, 2, 1), list(SENTENCES.values()), own, fraction=1.0)
    windows = torch.tensor([[0, 1, 2]])
    recorded, inside = torch.zeros(1, 3, 1), torch.ones(1, 3, dtype=torch.bool)
    for request in (0, 1):
        _, mask = relabeling.chunks(windows, torch.tensor([request]), recorded, inside)
        assert mask.tolist() == [[True, False, False]]
    kept, mask = relabeling.chunks(windows, torch.tensor([OWN]), recorded, inside)
    assert mask.all() and torch.equal(kept, recorded)


def test_what_cannot_be_relabeled_is_refused_in_one_sentence(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fraction between 0 and 1"):
        TrajectoryDataset(path, relabel=1.5)
    bare = write(tmp_path / "bare.h5", labels=False)
    with pytest.raises(UserError, match=r"simscale data relabel .*bare\.h5"):
        TrajectoryDataset(bare, relabel=1.0)
    assert len(TrajectoryDataset(bare)) == 7


def test_statistics_are_of_all_instructions(path: Path) -> None:
    recorded = TrajectoryDataset(path).statistics()["actions"]
    relabeled = TrajectoryDataset(path, relabel=1.0).statistics()["actions"]
    # the smallest label is for blue in step 2 of episode 1, which asked for red
    assert float(recorded.min) == pytest.approx(-0.35)
    assert float(relabeled.min) == pytest.approx(-0.75)
    identity = TrajectoryDataset(path, relabel=1.0).identity()
    assert identity["count"] == {"episodes": 2, "steps": 7} and "labels" in identity["digest"]
    json.dumps(identity)


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_policy_learns_to_do_what_it_is_asked_for_in_the_same_state(
    tmp_path: Path, horizon: int
) -> None:
    path = write(tmp_path / "images.h5", image_size=16)
    small = {"film_hidden_dim": 64, "embed_dim": 32, "num_heads": 2, "backbone_width": 8}
    config = TrainConfig(
        model_name="vla:film",
        model_kwargs={**small, "action_horizon": horizon},
        dataset_path=str(path),
        relabel=1.0,
        batch_size=14,
        max_steps=60,
        lr=5e-3,
        warmup_steps=5,
        eval_every=0,
        checkpoint_dir=str(tmp_path / "run"),
        show_progress=False,
        device="cpu",
    )
    train_policy(config)
    policy = ModelPolicy.from_checkpoint(tmp_path / "run" / "final.pt")
    data = TrajectoryDataset(path)
    stored = data.read(torch.arange(7))["observations"]  # images as they are in the file
    obs = {key: stored[key].numpy() for key in ("ee_pos", "image")}
    for k, sentence in enumerate(("red please", "blue please")):
        policy.reset(np.ones(7, dtype=bool), [0] * 7, [sentence] * 7)
        answers = policy.predict_action_chunk(obs)[:, 0, 0]
        expected = [label(e, t, k) for e, length in enumerate(LENGTHS) for t in range(length)]
        # the words alone decide between a label and its negative
        np.testing.assert_array_equal(np.sign(answers), np.sign(expected))
        np.testing.assert_allclose(answers, expected, atol=0.3)


def test_a_model_that_reads_no_instruction_is_refused(path: Path, tmp_path: Path) -> None:
    config = TrainConfig("bc", dataset_path=str(path), relabel=1.0, checkpoint_dir=str(tmp_path))
    with pytest.raises(UserError, match="the model 'bc' reads no instruction"):
        train_policy(config)
