"""Every registered model can be exported and acts the same there, or says in one sentence why not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.errors import ExistingFileError, UserError
from simscaleai.models import create_model
from simscaleai.models.export import TOLERANCE, export_policy
from simscaleai.models.policy import ModelPolicy
from simscaleai.models.registry import model_arguments
from simscaleai.storage.find_checkpoint import checkpoint_sha256
from simscaleai.tools.cli import main
from simscaleai.training import TrainConfig, build_trainer

_spec = importlib.util.spec_from_file_location(
    "resume_run", Path(__file__).with_name("resume_run.py")
)
assert _spec is not None and _spec.loader is not None
resume_run: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(resume_run)


# actions at once, and step by step from noise; tracing a transformer takes seconds
QUICK = {"bc", "flow"}


@pytest.fixture(
    params=[m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in resume_run.MODELS]
)
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> ModelPolicy:
    """An untrained policy of each model, with the statistics of synthetic data."""
    torch.manual_seed(0)
    # tracing takes as long as there are steps, and two are as hard as ten
    few = (
        {"num_inference_steps": 2}
        if "num_inference_steps" in model_arguments(request.param)
        else {}
    )
    config = TrainConfig(
        resume_run.debug(request.param),
        model_kwargs=few,
        batch_size=4,
        max_steps=4,
        warmup_steps=0,
        device="cpu",
        show_progress=False,
        checkpoint_dir=str(tmp_path / "run"),
    )
    found = build_trainer(config).model.eval()
    assert isinstance(found, ModelPolicy)
    return found


# ONNX takes seconds for each model
@pytest.mark.parametrize("kind", ["torch-export", pytest.param("onnx", marks=pytest.mark.slow)])
def test_an_exported_policy_acts_the_same(policy: ModelPolicy, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "policy"
    try:
        found = export_policy(policy, path, kind, "reach the red sphere")
    except UserError as error:  # a model may say why it cannot
        assert "cannot be exported" in str(error) and str(error).endswith(".")
        assert not path.exists()
        return
    assert path.stat().st_size > 1000 and 0 <= found.max_difference <= TOLERANCE
    about = json.loads(found.description.read_text())
    declared = policy.declared
    assert about["output"]["shape"] == [1, declared.action_horizon, 4]
    names = [entry["name"] for entry in about["inputs"]]
    assert policy.spec is not None and set(policy.spec.image_keys) <= set(names)
    assert ("state" in names) == bool(policy.spec.state_keys)
    assert ("noise" in names) == (declared.noise_shape is not None)
    assert (about["instruction"] is not None) == declared.uses_language
    assert about["n_action_steps"] == declared.n_action_steps


BUILT_IN = {"act", "bc", "diffusion", "flow", "mlp", "vla"}


def test_all_built_in_models_are_tried() -> None:
    assert set(resume_run.MODELS) >= BUILT_IN


def test_an_exported_file_runs_without_this_package(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = TrainConfig(
        "bc", max_steps=1, batch_size=4, device="cpu", show_progress=False,
        checkpoint_dir=str(tmp_path / "run"),
    )  # fmt: skip
    policy = build_trainer(config).model.eval()
    assert isinstance(policy, ModelPolicy)
    path = tmp_path / "bc.pt2"
    export_policy(policy, path, "torch-export")
    program = torch.export.load(path).module()
    state = torch.linspace(-2, 2, 20)[None]
    wanted = policy.act({"state": state.numpy()})
    np.testing.assert_allclose(program(state).numpy()[:, 0], wanted, atol=1e-5)
    # an existing file is kept unless asked for
    before = path.read_bytes()
    with pytest.raises(ExistingFileError, match="exists already"):
        export_policy(policy, path, "torch-export")
    assert path.read_bytes() == before
    export_policy(policy, path, "torch-export", overwrite=True)


def test_a_policy_that_acts_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        "bc", max_steps=1, device="cpu", show_progress=False, checkpoint_dir=str(tmp_path)
    )
    policy = build_trainer(config).model.eval()
    assert isinstance(policy, ModelPolicy)
    chunks = policy.predict_action_chunk
    monkeypatch.setattr(ModelPolicy, "predict_action_chunk", lambda self, obs: chunks(obs) + 1e-4)
    with pytest.raises(UserError, match=r"differs from the policy by 0\.0001"):
        export_policy(policy, tmp_path / "bc.pt2", "torch-export")
    assert not (tmp_path / "bc.pt2").exists()


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    bare = ModelPolicy(create_model("bc", state_dim=3))
    with pytest.raises(UserError, match="without an observation spec"):
        export_policy(bare, tmp_path / "a", "torch-export")
    with pytest.raises(UserError, match="Unknown format of a policy 'pickle'"):
        export_policy(bare, tmp_path / "a", "pickle")


def test_the_command_exports_what_the_path_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(
        "bc", max_steps=1, batch_size=4, device="cpu", show_progress=False,
        checkpoint_dir=str(tmp_path / "run"),
    )  # fmt: skip
    build_trainer(config).train()

    def export(*words: str) -> tuple[Any, str]:
        with pytest.raises(SystemExit) as ended:
            main(["export", *words])
        return ended.value.code, "".join(capsys.readouterr())

    run, file = str(tmp_path / "run"), str(tmp_path / "a.pt2")
    code, out = export(run, "--format", "torch-export", "--output", file)
    assert code == 0 and "largest difference" in out and Path(file).is_file()
    about = json.loads(Path(f"{file}.json").read_text())
    assert about["checkpoint_sha256"] == checkpoint_sha256(tmp_path / "run" / "final.pt")
    code, out = export(run, "--format", "torch-export", "--video", "--output", file)
    assert code == 2 and "--video, --subtasks and --fps are for datasets" in out
    code, out = export("data.h5", "--instruction", "go", "--output", file)
    assert code == 2 and "--instruction is for policies" in out
    code, out = export(run, "--format", "lerobot", "--output", str(tmp_path / "b"))
    assert code == 2 and not (tmp_path / "b").exists()
