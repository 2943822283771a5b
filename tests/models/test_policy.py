from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.inference import inference
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import BATCH_SIZE, ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.storage.checkpoint import save_checkpoint

WIDTHS = {"ee_pos": 3, "joint_pos": 7, "object_quat": 4}


def observations(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=(n, d)).astype(np.float32) for k, d in WIDTHS.items()}


def make_policy(contract: EnvContract | None = None) -> ModelPolicy:
    torch.manual_seed(0)
    spec = ObsSpec({k: (d,) for k, d in WIDTHS.items()}, dict.fromkeys(WIDTHS, "float32"))
    statistics = {"state": Statistics.of(torch.randn(50, 14) * 3 + 1)}
    model = create_model("bc", state_dim=14, hidden_dim=256, dropout=0.3)
    return ModelPolicy(model, spec, Normalizer(statistics), contract)


def test_a_row_does_not_depend_on_the_others() -> None:
    policy = make_policy()
    obs = observations(200)
    whole = policy.act(obs)
    for start in range(0, 200, 7):
        part = policy.act({k: v[start : start + 7] for k, v in obs.items()})
        np.testing.assert_array_equal(part, whole[start : start + 7])
    for i in range(2 * BATCH_SIZE):
        one = policy.act({k: v[i : i + 1] for k, v in obs.items()})
        np.testing.assert_array_equal(one[0], whole[i])


class Obedient(nn.Module):
    """Moves as far as it is told."""

    uses_language = True

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def predict(self, obs: dict[str, torch.Tensor], language: str | list[str]) -> torch.Tensor:
        told = [language] * len(obs["state"]) if isinstance(language, str) else language
        assert len(told) == len(obs["state"])
        return torch.tensor([[float(word or 0)] * 4 for word in told])


def test_each_env_has_its_own_instruction() -> None:
    policy = ModelPolicy(Obedient())
    n = 2 * BATCH_SIZE + 5
    everywhere = np.ones(n, dtype=bool)
    policy.reset(everywhere, [0] * n, ["0.5"] * n)
    assert (policy.act(observations(n)) == 0.5).all()
    policy.reset(everywhere, [0] * n, [str(i / 1000) for i in range(n)])
    policy.reset(everywhere, [0] * n)  # an environment that asks for nothing takes nothing back
    np.testing.assert_allclose(policy.act(observations(n))[:, 0], np.arange(n) / 1000)


def test_actions_are_float32_and_bounded() -> None:
    actions = make_policy().act({k: v * 1e6 for k, v in observations(5).items()})
    assert actions.dtype == np.float32 and actions.shape == (5, 4)
    assert np.abs(actions).max() <= 1 and np.isfinite(actions).all()


def test_acting_leaves_mode_randomness_and_inputs_alone() -> None:
    policy = make_policy().train()
    obs = observations(3)
    copy = {k: v.copy() for k, v in obs.items()}
    before = torch.get_rng_state()
    first = policy.act(obs)
    policy.reset(np.ones(3, bool), [1, 2, 3])
    np.testing.assert_array_equal(first, policy.act(obs))
    assert torch.equal(before, torch.get_rng_state())
    assert all(m.training for m in policy.modules())
    for key, value in copy.items():
        np.testing.assert_array_equal(obs[key], value)


def test_misfitting_observations_are_all_named() -> None:
    obs = {**observations(2), "extra": np.zeros((2, 9)), "joint_pos": np.zeros((2, 6), np.float32)}
    del obs["ee_pos"]
    with pytest.raises(UserError) as error:
        make_policy().act(obs)
    assert "'ee_pos' is missing" in str(error.value)
    assert "'joint_pos' has the shape (6,) per env, expected (7,)" in str(error.value)


def test_contract_is_narrowed_to_what_the_policy_reads() -> None:
    shapes = {**{k: (d,) for k, d in WIDTHS.items()}, "image": (8, 8, 3)}
    contract = EnvContract("reach", {}, shapes, dict.fromkeys(shapes, "float32"), 4, 0.05)
    found = make_policy(contract).contract
    assert found is not None and set(found.obs_shapes) == set(found.obs_dtypes) == set(WIDTHS)


def test_checkpoints_that_hold_no_policy_are_clear_errors(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.pt", {"weights": {}})
    with pytest.raises(UserError, match="holds no model"):
        ModelPolicy.from_checkpoint(path)
    policy = make_policy()
    payload = {"policy": policy.description(), "weights": dict(policy.state_dict())}
    del payload["weights"]["normalizer.state_mean"]
    with pytest.raises(UserError, match=r"normalizer\.state_mean is missing"):
        ModelPolicy.from_checkpoint(save_checkpoint(path, payload))
    payload["policy"]["model_name"] = "gone"
    with pytest.raises(UserError, match=r"Unknown model 'gone'; known: .*bc"):
        ModelPolicy.from_checkpoint(save_checkpoint(path, payload))


def test_a_model_that_acts_inside_of_a_policy_leaves_every_mode_as_it_was() -> None:
    layers = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Dropout()))
    layers[1][0].eval()  # a frozen layer
    modes = [m.training for m in layers.modules()]
    with inference(layers):
        assert not any(m.training for m in layers.modules())
        with inference(layers[1]):
            assert not torch.is_grad_enabled()
        assert not any(m.training for m in layers.modules()) and not torch.is_grad_enabled()
    assert [m.training for m in layers.modules()] == modes and torch.is_grad_enabled()
    with inference(layers[1]):  # by itself again
        assert layers.training and not layers[1].training
    assert [m.training for m in layers.modules()] == modes
