"""`simscale list-envs` with classes of the user's, some of which cannot be made."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from simscaleai.sim import factory, register_env
from simscaleai.tools.cli import main


class Theirs(gymnasium.Env):
    """Has attributes of the names of ours."""

    observation_space = spaces.Dict(q=spaces.Box(-1, 1, (3,), np.float32), k=spaces.Discrete(2))
    task = "PushT"

    def __init__(self, config: Any, render_mode: Any = None) -> None: ...


class Failing(Theirs):
    def __init__(self, config: Any, render_mode: Any = None) -> None:
        raise RuntimeError("no license\nfor the simulator")


def test_a_faulty_class_hides_no_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "_register_with_gymnasium", lambda: None)
    for name, cls in (("theirs", Theirs), ("failing", Failing)):
        register_env(name, cls)
    factory._ENVS.register("gone", "no_such_module:Env")
    with pytest.raises(SystemExit) as ended:
        main(["list-envs"])
    assert ended.value.code in (0, None)
    out, err = capsys.readouterr()
    assert "reach_color" in out and "q 3" in out and "k number" in out
    assert err.splitlines() == [
        "The environment 'failing' cannot be made: RuntimeError: no license.",
        "The environment 'gone' cannot be made: ModuleNotFoundError: No module named 'no_such_module'.",
    ]
