"""What an observation consists of."""

from __future__ import annotations

import pytest

from simscaleai.errors import UserError
from simscaleai.observations import ObsSpec


def test_a_saved_spec_without_a_dtype_is_damaged() -> None:
    about = {"obs_shapes": {"a": [3], "b": [2]}, "obs_dtypes": {"a": "float32", "b": "float32"}}
    assert ObsSpec.from_saved(about).shapes == {"a": (3,), "b": (2,)}
    del about["obs_dtypes"]["b"]
    with pytest.raises(UserError, match="obs_dtypes lacks b; the file is damaged"):
        ObsSpec.from_saved(about)
