"""Results of different evaluations are kept apart, and a place that cannot be written is found out first."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai.errors import UnsavedResults, UserError
from simscaleai.evaluation import EvalConfig, evaluate_checkpoint, evaluate_policy
from simscaleai.evaluation.eval_files import EvalFiles
from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
from simscaleai.executors import InProcess
from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.sim import make_env
from simscaleai.storage import atomic
from simscaleai.storage.atomic import require_writable
from simscaleai.storage.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """An untrained policy for reach, one for each number."""
    contract = make_env("reach", cameras=[], dt=0.01, max_episode_steps=5).contract
    spec = ObsSpec(contract.obs_shapes, contract.obs_dtypes)
    folder = tmp_path_factory.mktemp("policies")

    def write(seed: int) -> Path:
        torch.manual_seed(seed)
        model = create_model("bc", state_dim=20, hidden_dim=16, n_layers=1)
        statistics = {"state": Statistics.of(torch.randn(50, 20))}
        policy = ModelPolicy(model, spec, Normalizer(statistics), contract)
        payload = {"policy": policy.description(), "weights": dict(policy.state_dict())}
        return save_checkpoint(folder / f"{seed}.pt", payload)

    return write


def evaluate(path: Path, **kwargs: Any) -> dict[str, Any]:
    given = {"n_episodes": 2, "device": "cpu", "show_progress": False, **kwargs}
    return evaluate_checkpoint(path, **given)


def read(path: Any) -> Any:
    return json.loads(Path(path).read_text())


def test_each_evaluation_has_its_own_file(trained: Any, tmp_path: Path) -> None:
    first = Path(shutil.copy(trained(0), tmp_path / "final.pt"))
    best = Path(shutil.copy(trained(1), tmp_path / "best.pt"))
    runs = [
        evaluate(first),
        evaluate(best),
        evaluate(first, seed=1),
        evaluate(first, n_episodes=3),
        evaluate(first, randomize="heavy"),
    ]
    assert len({r["output_path"] for r in runs}) == 5
    for result in runs:
        assert read(result["output_path"]) == json.loads(json.dumps(result))
    assert read(tmp_path / "eval_info.json") == read(runs[-1]["output_path"])
    # made again, it replaces its own file; trained again under the same name, it does not
    assert evaluate(first)["output_path"] == runs[0]["output_path"]
    shutil.copy(trained(2), first)
    again = evaluate(first)
    assert again["output_path"] not in {r["output_path"] for r in runs}
    assert read(runs[0]["output_path"])["checkpoint_sha256"] == runs[0]["checkpoint_sha256"]


def test_a_checkpoint_that_was_replaced_is_loaded_anew(trained: Any, tmp_path: Path) -> None:
    path, rewards = tmp_path / "final.pt", []
    for i in range(2):
        shutil.copy(trained(i), path)
        how = SourceEvaluation(n_episodes=2, device="cpu", show_progress=False, num_envs=2)
        spread = evaluate_source(str(path), replace(how, executor=InProcess()))
        assert spread["mean_reward"] == evaluate_source(str(path), how)["mean_reward"]
        rewards.append(spread["mean_reward"])
    assert rewards[0] != rewards[1]


def test_checkpoints_of_one_name_in_one_folder_of_results(trained: Any, tmp_path: Path) -> None:
    paths = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        paths.append(Path(shutil.copy(trained(i), tmp_path / str(i) / "final.pt")))
    found = [evaluate(path, output_dir=tmp_path / "all")["output_path"] for path in paths]
    assert [Path(p).name for p in found] == [
        "eval_info_final_reach_2_seed0.json",
        "eval_info_final_reach_2_seed0_2.json",
    ]


def test_a_run_may_be_named(trained: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/a/checkpoints").mkdir(parents=True)
    shutil.copy(trained(0), "runs/a/checkpoints/final.pt")
    for place in ("a", "runs/a", "runs/a/checkpoints"):
        assert evaluate(place)["checkpoint"] == "runs/a/checkpoints/final.pt"  # type: ignore[arg-type]


def test_the_place_is_tried_before_the_first_episode(
    trained: Any, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    path = Path(shutil.copy(trained(0), tmp_path / "final.pt"))
    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        patch.setattr(
            "simscaleai.evaluation.policy_runner.run_suite",
            lambda *args, **kwargs: pytest.fail("an episode was run"),
        )
        with pytest.raises(UserError, match=r"eval_info.json cannot be written .*--output"):
            evaluate(path, output_dir=tmp_path / "file" / "there")

    def refuse(self: Path, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    result = evaluate(path)
    assert "will not be saved" in caplog.text and "Permission denied" in caplog.text
    assert result["output_path"] is None and result["n_episodes"] == 2
    assert not list(tmp_path.glob("eval_info*"))


def test_results_that_cannot_be_written_in_the_end_are_not_lost(
    trained: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = Path(shutil.copy(trained(0), tmp_path / "final.pt"))

    def full(self: EvalFiles, results: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EvalFiles, "write", full)
    with pytest.raises(UnsavedResults, match=r"not saved: .*No space left on device") as error:
        evaluate(path)
    assert error.value.results["n_episodes"] == 2


def test_files_hold_json_without_nan(tmp_path: Path) -> None:
    about = dict.fromkeys(("checkpoint_sha256", "randomize"))
    about |= {"checkpoint": "a/ö b.pt", "env_name": "x", "n_episodes": 1, "seed": 0, "phrasings": "train"}  # type: ignore[dict-item]  # fmt: skip
    files = EvalFiles(tmp_path, about)
    files.write({**about, "success_rate": math.nan, "episodes": [(math.inf, 1.0)]})
    assert files.path.name == "eval_info_-b_x_1_seed0.json"
    assert read(files.path)["success_rate"] is None
    assert read(files.path)["episodes"] == [[None, 1.0]]


def test_videos_are_refused_before_the_first_episode(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = make_env("reach", render_mode="rgb_array", cameras=[])
    config = EvalConfig(n_episodes=1, save_videos=True, video_dir=str(tmp_path / "file" / "v"))
    act = lambda obs: pytest.fail("a step was made")  # noqa: E731
    with pytest.raises(UserError, match=r"episode_0.mp4 cannot be written .*video_dir"):
        evaluate_policy(env, act, config)


def test_what_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b" / "c.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="is a folder"):
        require_writable(tmp_path)
    assert atomic.leftovers(tmp_path / "x") == []
