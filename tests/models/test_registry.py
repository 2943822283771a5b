from __future__ import annotations

import subprocess
import sys

import pytest
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import ModelRegistry, create_model, list_models, register_model
from simscaleai.models.bc import BehaviorCloning


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


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from simscaleai.models import list_models; print(list_models());"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
