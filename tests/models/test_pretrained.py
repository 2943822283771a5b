from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.pretrained import CONFIG, WEIGHTS

from .test_acting import make_policy, observations


def test_a_folder_is_the_policy(tmp_path: Path) -> None:
    policy = make_policy("diffusion")
    folder = policy.save_pretrained(tmp_path / "new" / "policy")
    assert {p.name for p in folder.iterdir()} == {CONFIG, WEIGHTS}
    weights = load_file(folder / WEIGHTS)
    assert weights.keys() == policy.state_dict().keys()
    obs = observations(3, 0)
    expected = policy.act(obs)
    for load in (ModelPolicy.from_pretrained, ModelPolicy.from_checkpoint):
        again = load(folder, device="cpu")
        np.testing.assert_array_equal(again.act(obs), expected)
        assert again.description() == policy.description()


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder = make_policy("act").save_pretrained(tmp_path)
    about = json.loads((folder / CONFIG).read_text())
    for text, says in (
        ("{", "cannot be read"),
        ("[]", "does not say"),
        (json.dumps({**about, "format": "other"}), "does not say"),
        (json.dumps({**about, "model_name": "gone"}), "Unknown model 'gone'"),
        (json.dumps({**about, "model_kwargs": {"embed_dim": 64}}), "do not fit"),
    ):
        (folder / CONFIG).write_text(text)
        with pytest.raises(UserError, match=says):
            ModelPolicy.from_pretrained(folder, device="cpu")
    (folder / CONFIG).write_text(json.dumps(about))
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:100])
    with pytest.raises(UserError, match="cannot be read"):
        ModelPolicy.from_pretrained(folder, device="cpu")
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        ModelPolicy.from_pretrained(folder, device="cpu")
