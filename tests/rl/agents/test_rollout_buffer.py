"""Advantages by hand, and minibatches that hold every valid step once."""

from __future__ import annotations

import pytest
import torch

from simscaleai.rl.agents.ppo import RolloutBuffer

GAMMA, LAM = 0.9, 0.8


def filled(rewards: list[float], dones: list[float], values: list[float]) -> RolloutBuffer:
    buffer = RolloutBuffer(len(rewards), 1, 1, "cpu")
    for t, (reward, done, value) in enumerate(zip(rewards, dones, values, strict=True)):
        buffer.add([float(t)], [0.0], reward, done, 0.0, value)
    return buffer


def test_gae_is_the_sum_of_discounted_errors() -> None:
    buffer = filled([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [0.5, 0.4, 0.3])
    buffer.compute_gae(0.2, GAMMA, LAM)
    # delta_t = r_t + gamma V_{t+1} - V_t
    d0, d1, d2 = 1 + 0.9 * 0.4 - 0.5, 2 + 0.9 * 0.3 - 0.4, 3 + 0.9 * 0.2 - 0.3
    k = GAMMA * LAM
    expected = torch.tensor([d0 + k * d1 + k * k * d2, d1 + k * d2, d2])
    torch.testing.assert_close(buffer.advantages[:, 0], expected)
    torch.testing.assert_close(buffer.returns[:, 0], expected + buffer.values[:, 0])


def test_nothing_flows_back_over_the_end_of_an_episode() -> None:
    buffer = filled([1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [0.5, 0.4, 0.3])
    buffer.compute_gae(0.2, GAMMA, LAM)
    d0, d1, d2 = 1 + 0.9 * 0.4 - 0.5, 2 - 0.4, 3 + 0.9 * 0.2 - 0.3
    expected = torch.tensor([d0 + GAMMA * LAM * d1, d1, d2])
    torch.testing.assert_close(buffer.advantages[:, 0], expected)


def test_with_lambda_1_returns_are_discounted_sums() -> None:
    buffer = filled([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [5.0, -2.0, 7.0])
    buffer.compute_gae(10.0, GAMMA, 1.0)
    expected = [1 + 0.9 + 0.81 + 0.729 * 10, 1 + 0.9 + 0.81 * 10, 1 + 0.9 * 10]
    torch.testing.assert_close(buffer.returns[:, 0], torch.tensor(expected))


def test_environments_do_not_mix() -> None:
    both = RolloutBuffer(3, 1, 1, "cpu", num_envs=2)
    other = ([-1.0, 0.0, 4.0], [1.0, 0.0, 0.0], [0.1, 0.2, 0.9])
    one = ([1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [0.5, 0.4, 0.3])
    for t in range(3):
        rewards, dones, values = (
            torch.tensor([a[t], b[t]]) for a, b in zip(one, other, strict=True)
        )
        both.add(torch.zeros(2, 1), torch.zeros(2, 1), rewards, dones, torch.zeros(2), values)
    both.compute_gae(torch.tensor([0.2, 0.7]), GAMMA, LAM)
    for column, (single, last) in enumerate(((one, 0.2), (other, 0.7))):
        alone = filled(*single)
        alone.compute_gae(last, GAMMA, LAM)
        torch.testing.assert_close(both.advantages[:, column], alone.advantages[:, 0])


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(4, [4, 4]), (3, [3, 3, 2]), (64, [8]), (7, [8])]
)
def test_minibatches_hold_every_valid_step_once(batch_size: int, sizes: list[int]) -> None:
    buffer = RolloutBuffer(5, 1, 2, "cpu", num_envs=2)
    for t in range(5):
        valid = torch.tensor([True, t not in (1, 3)])
        obs = torch.tensor([[2.0 * t], [2.0 * t + 1]])
        buffer.add(obs, torch.zeros(2, 2), obs[:, 0], [0, 0], obs[:, 0] + 100, [0, 0], valid)
    buffer.compute_gae([0.0, 0.0], GAMMA, LAM)
    batches = list(buffer.get_batches(batch_size, torch.Generator().manual_seed(0)))
    assert [len(b[0]) for b in batches] == sizes
    obs, actions, log_probs, returns, advantages = (
        torch.cat(x) for x in zip(*batches, strict=True)
    )
    assert sorted(obs[:, 0].tolist()) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert actions.shape == (8, 2)
    torch.testing.assert_close(log_probs, obs[:, 0] + 100)  # rows stay together
    torch.testing.assert_close(returns, advantages)  # all values are 0
