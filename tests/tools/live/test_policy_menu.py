"""The policies that a viewer can switch between."""

from __future__ import annotations

import pytest

from simscaleai.errors import UserError
from simscaleai.rollout.policy_source import PolicySource
from simscaleai.tools.live import policy_menu


def test_an_environment_that_no_policy_fits_is_closed(monkeypatch):
    made = []

    def make(*args):
        made.append(Env())
        return made[-1]

    def refuse(self, env):
        raise UserError("The policy does not fit.")

    monkeypatch.setattr(policy_menu, "make_policy_env", make)
    policies = policy_menu.Policies(["scripted"])
    monkeypatch.setattr(PolicySource, "policy", refuse)
    with pytest.raises(UserError, match="does not fit"):
        policies.load(0)
    assert [env.closed for env in made] == [True]
    monkeypatch.setattr(PolicySource, "policy", lambda self, env: "a policy")
    assert policies.load(0) == (made[1], "a policy")
    monkeypatch.setattr(PolicySource, "policy", refuse)
    with pytest.raises(UserError, match="does not fit"):
        policies.load(0)  # of the same environment, which the policy before still uses
    assert [env.closed for env in made] == [True, False]


class Env:
    closed = False

    def close(self):
        self.closed = True
