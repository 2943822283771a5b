"""`simscale viz-live` before anything is shown: which policy, in which environment, in what."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from simscaleai.errors import MissingPackageError, UserError
from simscaleai.models import create_model
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.sim import make_env
from simscaleai.storage.checkpoint import save_checkpoint
from simscaleai.tools import cli
from simscaleai.tools.live import load_player, native_viewer, view_live


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An untrained policy for pick_place at another control rate."""
    about: Any = make_env("pick_place", cameras=[], control_dt=0.1)
    spec = ObsSpec(about.contract.obs_shapes, about.contract.obs_dtypes)
    torch.manual_seed(0)
    model = create_model("bc", state_dim=28, hidden_dim=8, n_layers=1)
    policy = ModelPolicy(model, spec, None, about.contract)
    payload = {"policy": policy.description(), "weights": dict(policy.state_dict())}
    return save_checkpoint(tmp_path / "final.pt", payload)


@pytest.mark.parametrize(
    "words", [["viz-live"], ["viz-live", "--policy", "random", "--env-name", "pick_place"]]
)
def test_without_a_display_it_names_web(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("Error: There is no display") and "--web" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": "scriptd"}, "Did you mean 'scripted'?"),
        ({"env_name": "rech"}, "Did you mean 'reach'?"),
        ({"speed": 0.0}, "between 0.01 and 100"),
        ({"speed": float("nan")}, "between 0.01 and 100"),
    ],
)
def test_a_mistake_is_one_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        view_live(**given)


def test_a_page_without_the_browser_viewer_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an installation without extras."""
    monkeypatch.setitem(sys.modules, "mujoco.studio", None)
    with pytest.raises(MissingPackageError, match=r"simscaleai\[viz\]"):
        view_live(web=True)


def test_a_checkpoint_brings_its_environment(checkpoint: Path) -> None:
    player = load_player(None, str(checkpoint))
    assert player.env.contract.env_name == "pick_place"
    assert player.env.config.control_dt == 0.1
    player.advance(1.0)
    assert player.env.data.time == pytest.approx(1.1)


def test_a_checkpoint_that_does_not_fit_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="does not fit the policy trained on 'pick_place'"):
        load_player("reach", str(checkpoint))


class Window:
    """What `launch_passive` returns, closed by its user after ten frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.cam = None
        self.texts: list[Any] = []
        self.closed = False

    def lock(self) -> Any:
        import contextlib

        return contextlib.nullcontext()

    def set_texts(self, text: Any) -> None:
        self.texts.append(text)

    def sync(self) -> None:
        self.frames += 1

    def is_running(self) -> bool:
        return self.frames < 10

    def close(self) -> None:
        self.closed = True


def test_the_window_shows_the_player_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    import mujoco.viewer

    opened = Window()
    opened.cam = mujoco.MjvCamera()
    shown = SimpleNamespace()

    def launch_passive(model: Any, data: Any, **options: Any) -> Window:
        shown.model, shown.data = model, data
        return opened

    monkeypatch.setattr(mujoco.viewer, "launch_passive", launch_passive)
    monkeypatch.setattr(native_viewer, "require_display", lambda: None)
    player = view_live("reach", "scripted")
    assert shown.data is player.data and shown.model is player.model
    assert opened.closed and opened.frames == 10
    assert player.env.data.time > 0
    assert opened.texts[-1][2:] == ("reach | expert", "Episode 1 | 0 of 0 succeeded")
