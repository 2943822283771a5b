"""Every registered task with several requests: its expert labels any state for each of them.

One that is added is tested here without an edit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from simscaleai.sim import list_envs, make_vec_env

N = 6


def _with_requests() -> list[str]:
    names = [name for name in list_envs() if not name.startswith("test-")]
    return [name for name in names if make_vec_env(name, 1, dt=0.005).task.phrasings()]


@pytest.fixture(scope="module", params=_with_requests())
def envs(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Envs in the middle of episodes."""
    made = make_vec_env(request.param, N, dt=0.005)
    obs, _ = made.reset(seed=0)
    expert = made.task.expert()
    for _ in range(8):
        obs = made.step(expert.act(obs))[0]
    yield made
    made.close()


def test_labels_are_what_the_expert_does_when_asked(envs: Any) -> None:
    task, latent = envs.task, envs.sim.mocap_pos[:, envs.task._latent_id, 0]
    obs, expert, own = task.observe(envs.sim), task.expert(), latent.copy()
    labels = task.actions_by_instruction(expert, obs)
    count = len(task.phrasings())
    assert labels.shape == (N, count, envs.contract.action_dim) and labels.dtype == np.float32
    np.testing.assert_array_equal(labels[np.arange(N), own.astype(int)], expert.act(obs))
    for request in range(count):
        latent[:] = request  # now the episodes themselves ask for it
        np.testing.assert_array_equal(labels[:, request], expert.act(obs))
    latent[:] = own
    assert (labels != labels[:, :1]).any(), "every instruction has the same action"


def test_the_contract_lists_the_sentences(envs: Any) -> None:
    contract = envs.contract
    assert contract.instructions == envs.task.phrasings()
    assert type(contract).from_dict(contract.to_dict()) == contract
    sentences = [s for each in contract.instructions.values() for s in each]
    assert len(set(sentences)) == len(sentences)  # a sentence asks for one thing
    assert all(envs.instruction(i) in sentences for i in range(N))
