"""How a finished environment of a vector environment goes on, in Gymnasium's terms.

"next_step": its next step ignores the action, starts the next episode and rewards 0;
"same_step": it starts at once. `info` is that of the new episode, and what the finished one said last
  is in `info["final_obs"]` and `info["final_info"]`, see `final_info`;
"disabled": it stands still, at no cost, until `reset(options={"reset_mask": done})`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from simscaleai.errors import unknown_name


def find_autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """Return the mode for Gymnasium's enum, its name in any case ("same_step"), or its value ("SameStep").

    Raises:
      UserError: no such mode.
    """
    if isinstance(mode, AutoresetMode):
        return mode
    for known in AutoresetMode:
        if known.name == str(mode).upper() or known.value == mode:
            return known
    raise unknown_name("autoreset mode", str(mode), [known.name.lower() for known in AutoresetMode])


def final_info(
    obs: Mapping[str, NDArray[Any]], info: Mapping[str, Any], done: NDArray[np.bool_]
) -> dict[str, Any]:
    """What environments that are `done` (n,) showed last, as Gymnasium's own vector environments give it.

    Args:
      obs: {key: (n, ...)}, the last observations.
      info: the step's info, with a mask `_key` for every `key`.

    Returns:
      `final_obs`, an object array (n,) of one observation for each environment that is done and None for the
      others; `final_info`, like `info`, where the masks are `done`; and the masks of both.
    """
    last: NDArray[Any] = np.full(len(done), None, dtype=object)
    for env_id in np.flatnonzero(done):
        last[env_id] = {key: value[env_id] for key, value in obs.items()}
    said = {key: done if key.startswith("_") else value for key, value in info.items()}
    return {"final_obs": last, "_final_obs": done, "final_info": said, "_final_info": done}
