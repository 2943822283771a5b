"""A policy that reads its instruction is told from one that does not, before anything is simulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from simscaleai.datagen import generate_dataset
from simscaleai.models import create_model, register_model
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.training import TrainConfig, train_policy
from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.instruction_check import METRIC, InstructionCheck, other_instructions

COLORS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of reach_color."""
    path = tmp_path_factory.mktemp("data") / "colors.h5"
    settings: Any = {"num_envs": 4, "domain_randomization": False, "show_progress": False}
    generate_dataset("reach_color", 24, str(path), policy_type="scripted", **settings)
    return path


class Talkative(nn.Module):
    """Goes to the sphere whose color is in its instruction; a deaf one goes to the green sphere."""

    obs_keys = ("state",)
    normalization = {"state": "identity"}
    uses_language = True
    deaf = False
    places = {"blue": 0, "hand": 3, "green": 6, "red": 23}  # in the state, whose keys are sorted

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def predict(self, obs: dict[str, torch.Tensor], language: list[str]) -> torch.Tensor:
        words = [["green"] if self.deaf else text.split() for text in language]
        named = [next(c for c in COLORS if c in each) for each in words]
        at = {name: obs["state"][:, k : k + 3] for name, k in self.places.items()}
        goal = torch.stack([at[color][i] for i, color in enumerate(named)])
        move = (goal - at["hand"]) / 0.05
        return self.scale * torch.cat([move, torch.zeros(len(move), 1)], dim=1).clip(-1, 1)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        predicted = self.predict(batch["observations"], batch["language"])
        return {
            "loss": (predicted - batch["actions"]).square().mean(),
            "predicted_actions": predicted,
        }


class Deaf(Talkative):
    deaf = True


@pytest.fixture(autouse=True)
def models() -> None:
    register_model("test-talkative")(Talkative)
    register_model("test-deaf")(Deaf)


def policy(name: str, data: TrajectoryDataset) -> ModelPolicy:
    return ModelPolicy(create_model(name), ObsSpec(data.spec.obs.shapes, data.spec.obs.dtypes))


def test_the_effect_is_that_of_another_instruction_in_the_same_frame(colors: Path) -> None:
    data = TrajectoryDataset(colors)
    check = InstructionCheck.of(data)
    assert check is not None
    assert check(policy("test-deaf", data)) == {METRIC: 0.0}
    # by hand: where the two spheres lie apart, over how far apart the episodes' own actions are
    first = data.first_steps(64)
    place = {c: first["observations"][f"{c}_pos"] - first["observations"]["ee_pos"] for c in COLORS}
    own = [next(c for c in COLORS if c in text.split()) for text in first["language"]]
    rest = [[COLORS[(COLORS.index(c) + k) % 3] for c in own] for k in (1, 2)]
    move, *others = (
        torch.stack([(place[c][i] / 0.05).clip(-1, 1) for i, c in enumerate(names)])
        for names in (own, *rest)
    )
    pairs = [(a - b).norm() for i, a in enumerate(move) for b in move[i + 1 :]]
    # of the two other spheres the one farther off
    change = torch.stack([(move - other).norm(dim=1) for other in others]).amax(0)  # (n,)
    expected = change.mean() / torch.stack(pairs).mean()
    found = check(policy("test-talkative", data))[METRIC]
    # recorded actions are the expert's own, which go the same way
    assert found == pytest.approx(expected.item(), rel=0.02) and found > 0.5


def test_the_warning_comes_once_and_not_before_a_quarter_of_the_run(colors: Path) -> None:
    check = InstructionCheck.of(TrajectoryDataset(colors))
    assert check is not None
    assert check.warning(24, 100, {METRIC: 0.01}) is None
    assert check.warning(25, 100, {METRIC: 0.10}) is None
    text = check.warning(25, 100, {METRIC: 0.012})
    assert text is not None and "1.2%" in text and "data.relabel=1" in text
    assert check.warning(50, 100, {METRIC: 0.01}) is None
    assert check.warning(50, 100, {}) is None
    # what is done already is no advice
    other = InstructionCheck.of(TrajectoryDataset(colors, relabel=1.0))
    assert other is not None
    text = other.warning(25, 100, {METRIC: 0.012})
    assert text is not None and "vla:film" in text and "data relabel" not in text


@pytest.mark.parametrize("name", ["test-deaf", "test-talkative"])
def test_a_run_records_it_and_says_it_in_words(
    name: str, colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(
        model_name=name,
        dataset_path=str(colors),
        max_steps=4,
        eval_every=2,
        batch_size=8,
        num_workers=0,
        device="cpu",
        show_progress=False,
        checkpoint_dir=str(tmp_path),
    )
    metrics = train_policy(config)
    err = capsys.readouterr().err
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    effects = [r[METRIC] for r in records if METRIC in r]
    assert len(effects) == 2 and effects[-1] == metrics[METRIC]
    if name == "test-deaf":
        assert effects == [0.0, 0.0] and err.count("ignores its instruction") == 1
    else:
        assert min(effects) > 0.5 and err == ""


def test_data_that_ask_for_one_thing_are_not_checked(make_dataset: Any, tmp_path: Path) -> None:
    path = tmp_path / "reach.h5"
    generate_dataset("reach", 4, str(path), policy_type="scripted", num_envs=2)
    assert InstructionCheck.of(TrajectoryDataset(path)) is None
    # without a list of requests, another sentence is another request
    other = make_dataset()
    assert InstructionCheck.of(TrajectoryDataset(other)) is not None
    assert InstructionCheck.of(TrajectoryDataset(other, split="valid")) is None  # of two episodes


def test_other_instructions_have_the_same_words() -> None:
    sentences = [("take red", "red please"), ("take blue", "blue please"), ("take green",)]
    assert other_instructions(["red please", "take blue"], sentences) == [
        ["blue please", "take green"],
        ["take green", "take red"],
    ]
    assert other_instructions(["dance", "take red"], sentences) == []
    assert other_instructions(["take red"], sentences[:1]) == []
    many = [(f"take {k}",) for k in range(100)]
    found = other_instructions(["take 0"], many)
    assert len(found) == 8 and found[0] == ["take 1"] and found[-1] == ["take 99"]


def test_first_steps_are_as_recorded(colors: Path) -> None:
    plain = TrajectoryDataset(colors)
    chunks = TrajectoryDataset(colors, seq_len=3, obs_steps=2, relabel=1.0, include_language=True)
    for data in (plain, chunks):
        first = data.first_steps(5)
        assert first["actions"].shape == (5, 4) and len(first["language"]) == 5
        # all hands start in the same place
        assert np.ptp(first["observations"]["ee_pos"].numpy(), axis=0).max() < 1e-3
        torch.testing.assert_close(first["actions"], plain.first_steps(5)["actions"])
