"""Models that plan or sample, as policies: rows, seeds, and training and acting being the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import SMALL_BATCH_SIZE, ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.storage.episodes import open_dataset
from simscaleai.training import TrainConfig, build_trainer
from simscaleai.training.data.dataset import TrajectoryDataset

PLANNERS = ["act", "diffusion", "flow"]
MLP = {"denoiser": "mlp"}


def make_policy(name: str, **kwargs: Any) -> ModelPolicy:
    torch.manual_seed(0)
    spec = ObsSpec({"x": (6,)}, {"x": "float32"})
    model = create_model(f"{name}:debug", state_dim=6, **kwargs)
    with torch.no_grad():
        for parameter in model.parameters():  # gates are zero at first, and nothing would reach
            parameter.add_(0.05 * torch.randn_like(parameter))
    statistics = {
        "state": Statistics.of(torch.randn(50, 6)),
        "actions": Statistics.of(torch.randn(50, 4)),
    }
    return ModelPolicy(model, spec, Normalizer(statistics, {"actions": "min_max"})).eval()


def observations(n: int, seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)}


def rollout(policy: ModelPolicy, rows: list[int], steps: int = 7) -> np.ndarray:
    """(steps, len(rows), 4): row i has an episode of its own seed and observations, begun at step i % 3."""
    actions = []
    policy.reset(np.ones(len(rows), bool), [100 + i for i in rows])
    for t in range(steps):
        begin = np.array([t == i % 3 for i in rows])
        policy.reset(begin, rows)
        obs = np.stack([observations(12, t)["x"][i] for i in rows])
        actions.append(policy.act({"x": obs}))
    return np.stack(actions)


@pytest.mark.parametrize(("name", "kwargs"), [*((name, {}) for name in PLANNERS), ("flow", MLP)])
@pytest.mark.parametrize("ensemble", [None, 0.1])
def test_a_row_is_the_same_alone_and_among_others(
    name: str, kwargs: dict[str, Any], ensemble: float | None
) -> None:
    policy = make_policy(name, n_action_steps=2, **kwargs)
    policy.temporal_ensemble = ensemble
    rows = list(range(12))
    assert len(rows) > SMALL_BATCH_SIZE
    before = torch.get_rng_state()
    whole = rollout(policy, rows)
    for some in ([3], [11, 0, 5]):
        np.testing.assert_array_equal(rollout(policy, some), whole[:, some])
    assert torch.equal(before, torch.get_rng_state())
    assert np.ptp(whole, axis=(0, 1)).min() > 0


@pytest.mark.parametrize("name", ["diffusion", "flow"])
def test_samples_follow_from_the_seed_of_the_episode(name: str) -> None:
    policy = make_policy(name, n_obs_steps=1)
    obs = {"x": np.zeros((3, 6), np.float32)}
    policy.reset(np.ones(3, bool), [7, 8, 7])
    first = policy.act(obs)
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    for _ in range(4):
        later = policy.act(obs)
    assert not np.array_equal(later[0], first[0])  # another step of the same episode


def test_only_rows_that_need_a_plan_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy("act", n_action_steps=4)
    calls: list[torch.Tensor] = []
    predict = policy.model.predict
    monkeypatch.setattr(
        policy.model, "predict", lambda obs: calls.append(obs["state"]) or predict(obs)
    )
    policy.reset(np.ones(3, bool), [0, 1, 2])
    for t in range(4):
        policy.reset(np.array([False, t == 2, False]), [0, 9, 2])
        policy.act(observations(3, t))
    assert [len(c) for c in calls] == [SMALL_BATCH_SIZE, SMALL_BATCH_SIZE]
    assert (calls[1][2:] == calls[1][1]).all()  # one row, and padding


def test_a_plan_can_be_looked_at_without_a_trace() -> None:
    policy = make_policy("diffusion")
    policy.reset(np.ones(2, bool), [1, 2])
    obs = observations(2, 0)
    plan = policy.predict_action_chunk(obs)
    assert plan.shape == (2, 8, 4) and np.abs(plan).max() <= 1
    np.testing.assert_array_equal(policy.predict_action_chunk(obs), plan)
    for t in range(4):
        np.testing.assert_array_equal(policy.select_action(observations(2, t)), plan[:, t])


def test_more_actions_than_are_planned_cannot_be_executed() -> None:
    with pytest.raises(UserError, match="n_action_steps is 9; of action_horizon 8"):
        make_policy("act", n_action_steps=9)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from simscaleai.datagen import generate_dataset

    path = tmp_path_factory.mktemp("data") / "reach.h5"
    generate_dataset("reach", 3, str(path), "scripted", False, show_progress=False)
    return path


@pytest.mark.parametrize("name", ["bc:debug", "act:debug", "diffusion:debug", "flow:debug"])
def test_replaying_a_demonstration_gives_the_predictions_of_training(
    name: str, demonstrations: Path, tmp_path: Path
) -> None:
    kwargs = {} if name == "bc:debug" else {"n_action_steps": 1}
    config = TrainConfig(
        name,
        {"action_horizon": 5, **kwargs},
        str(demonstrations),
        batch_size=8,
        max_steps=3,
        lr=1e-2,
        checkpoint_dir=str(tmp_path),
        show_progress=False,
        use_tensorboard=False,
        device="cpu",
    )
    trainer = build_trainer(config)
    trainer.train()
    policy = ModelPolicy.from_checkpoint(tmp_path / "final.pt", device="cpu")
    trained: Any = trainer.model.eval()
    data = TrajectoryDataset(demonstrations, 5, obs_steps=policy.declared.n_obs_steps)
    with open_dataset(demonstrations) as file:
        length = file.episodes[data.episodes[0]].length
        raw = {k: file.read(data.episodes[0], f"obs/{k}") for k in file.obs_keys}
    policy.reset(np.ones(1, bool), [3])
    for t in range(length):
        # The training path: windows of the dataset, through the module that was trained.
        batch = data.read(torch.full((SMALL_BATCH_SIZE,), t))
        inputs = trained._inputs(batch["observations"])
        assert policy._queue is not None
        options = {}
        if policy.declared.noise_shape is not None:
            from simscaleai import seeding

            drawn = seeding.generator(3, "policy", t).standard_normal(
                policy.declared.noise_shape, dtype=np.float32
            )
            options["noise"] = torch.from_numpy(drawn).expand(SMALL_BATCH_SIZE, *drawn.shape)
        expected = trained._raw_actions(trained.model.predict(inputs, **options))[:1].clamp(-1, 1)
        if not options:
            with torch.no_grad():
                torch.testing.assert_close(
                    trained(batch)["predicted_actions"][:1].clamp(-1, 1), expected, rtol=0, atol=0
                )
        now = {k: v[t : t + 1] for k, v in raw.items()}
        np.testing.assert_array_equal(policy.predict_action_chunk(now), expected.numpy())
        np.testing.assert_array_equal(policy.act(now), expected[:, 0].numpy())
