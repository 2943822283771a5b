"""The JSON text `env_args` of a dataset, from which robomimic and this package rebuild an environment."""

from __future__ import annotations

import json

from simscaleai.contract import EnvContract
from simscaleai.json_types import JsonDict

_ROBOMIMIC_GYM = 2  # robomimic's EnvType for Gymnasium environments


def env_args_text(contract: EnvContract, env_id: str | None = None) -> str:
    """Return the JSON text from which robomimic, and this package, rebuild an environment."""
    return json.dumps(
        {
            "env_name": env_id or contract.env_name,
            "type": _ROBOMIMIC_GYM,
            "env_kwargs": contract.env_config,
            "contract": contract.to_dict(),
        },
        sort_keys=True,
    )


def parse_env_args(text: str) -> JsonDict:
    """Return the JSON object in an `env_args`; ValueError with the rest of a sentence if it is none."""
    try:
        args = json.loads(text)
    # RecursionError: the text of a stranger may be nested a million deep
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(args, dict):
        raise ValueError("not a JSON object")
    return args
