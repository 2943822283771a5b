from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import ModelRegistry, create_model, list_models, register_model
from simscaleai.models.bc import BehaviorCloning
from simscaleai.models.overview import RECORDED, find_entry, overview, record
from simscaleai.models.registry import model_arguments


def test_built_ins_are_there_and_a_registration_adds_to_them() -> None:
    assert "bc" in list_models()

    @register_model("test-mine")
    class Mine(nn.Module):
        def __init__(self, state_dim: int = 20, **kwargs: int) -> None:
            super().__init__()
            self.kwargs = kwargs

    assert {"bc", "test-mine"} <= set(ModelRegistry.list())
    assert ModelRegistry.create("test-mine", other=3).kwargs == {"other": 3}
    assert isinstance(ModelRegistry.create("bc"), BehaviorCloning)
    assert ModelRegistry.register is register_model


def test_taken_names_are_refused() -> None:
    with pytest.raises(UserError, match="'bc' is taken"):
        register_model("bc")(nn.Linear)
    assert isinstance(create_model("bc"), BehaviorCloning)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"Unknown model 'bbc'; known: .*bc"):
        create_model("bbc")
    with pytest.raises(UserError, match=r"no argument 'droput'.*'dropout'"):
        create_model("bc", droput=0.1)


def test_a_model_remembers_how_it_was_made() -> None:
    assert create_model("bc", state_dim=3).registered == ("bc", {"state_dim": 3})


def test_a_preset_is_a_name_with_other_defaults() -> None:
    assert model_arguments("bc:debug")["hidden_dim"] == 64
    assert model_arguments("bc")["hidden_dim"] == 256
    model = create_model("bc:debug", n_layers=1)
    assert model.registered == ("bc", {"hidden_dim": 64, "n_layers": 1})
    with pytest.raises(UserError, match="preset of model 'bc': 'tiny'; known: debug"):
        create_model("bc:tiny")
    with pytest.raises(UserError, match="Unknown model 'bbc'"):
        create_model("bbc:debug")


def test_every_preset_can_be_built() -> None:
    entries = {entry.name: entry for entry in overview()}
    assert {"act:full", "diffusion:small", "flow", "vla:debug"} <= entries.keys()
    assert all("test-" in name or entry.parameters for name, entry in entries.items())
    assert entries["vla"].inputs == "image, instruction"


def test_what_is_recorded_of_the_models_is_true() -> None:
    assert RECORDED.read_text() == record(), "run `python scripts/generate_reference.py`"
    assert find_entry("bc:debug").arguments.startswith("state_dim=20, action_dim=4, hidden_dim=64,")
    with pytest.raises(UserError, match="preset of model 'bc': 'tiny'; known: debug"):
        find_entry("bc:tiny")


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from simscaleai.models.overview import overview; print(overview());"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arguments_are_converted_to_what_the_constructor_declares() -> None:
    model = create_model("bc", hidden_dim=np.int64(16), dropout=np.float32(0.1), use_image="False")
    assert model.registered[1] == {"hidden_dim": 16, "dropout": 0.1, "use_image": False}
    with pytest.raises(
        UserError, match=r"hidden_dim of the model 'bc' is 16.5; it must be a whole"
    ):
        create_model("bc", hidden_dim=16.5)
