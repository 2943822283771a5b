"""What an agent is shown of an observation: its vectors as one, all of them or those chosen.

    view = StateView(["ee_pos", "object_pos"], relative_positions=True)
    view(obs)                                 # {key: (n, ...)} -> (n, width) float32

The same choices as of a cloned policy (`data.state_keys`, `data.relative_positions`), and the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai.errors import UserError, unknown_name
from simscaleai.models.features import RelativePositions, relative
from simscaleai.observations import ObsSpec, flatten_state, is_image_key


class StateView:
    """See the module docstring.

    Args:
      state_keys: entries that are shown; None for all vectors. Pictures never are.
      relative_positions: show positions as `models.features.RelativePositions` has them.

    Attributes:
      spec: of the entries that are shown; known after the first observation.
    """

    def __init__(
        self, state_keys: Sequence[str] | None = None, relative_positions: bool = False
    ) -> None:
        self.state_keys, self.relative_positions = state_keys, relative_positions
        self.spec: ObsSpec | None = None
        self._features: RelativePositions | None = None

    def __call__(self, obs: Any) -> NDArray[np.float32]:
        """An observation {key: (..., d)} or (..., d) as (..., width).

        Raises:
          UserError: it has not what is to be shown.
        """
        if self.spec is None:
            self._learn(obs)
            assert self.spec is not None
        if not isinstance(obs, dict):
            return np.asarray(obs, dtype=np.float32)
        flat = np.asarray(flatten_state(obs, self.spec.state_keys), dtype=np.float32)
        if self._features is None:
            return flat
        features: NDArray[np.float32] = self._features(torch.from_numpy(flat)).numpy()
        return features

    def show(self, spec: ObsSpec) -> None:
        """Show the entries of `spec`, whatever an observation has besides."""
        self.spec, self._features = spec, relative(spec, self.relative_positions)

    def _learn(self, obs: Any) -> None:
        if not isinstance(obs, dict):
            if self.state_keys is not None or self.relative_positions:
                raise UserError(
                    "state_keys and relative_positions are for observations that are dicts, and this"
                    " environment's are arrays; leave them out."
                )
            self.show(ObsSpec({"state": np.shape(obs)[-1:]}, {"state": "float32"}))
            return
        vectors = sorted(key for key in obs if not is_image_key(key))
        for key in self.state_keys or ():
            if key not in vectors:
                raise unknown_name("state_keys entry", key, vectors)
        keys = vectors if self.state_keys is None else sorted(self.state_keys)
        shapes = {k: np.shape(obs[k])[-1:] for k in keys}
        self.show(ObsSpec(shapes, {k: str(obs[k].dtype) for k in keys}))
