"""Auxiliary targets: positions that only the simulator knows, predicted from the observations.

Copying actions says little about where things are: an action is the same for many positions. A model with
auxiliary targets also learns the positions themselves, relative to the hand, and its action head reads the
predictions as it would read positions of the state. This is privileged supervision: the positions come from
the dataset while training (`batch["privileged"]`) and are in no observation. Acting needs images alone.

    auxiliary = AuxiliaryPositions(192, ["object_pos", "target_pos"])
    offsets = auxiliary(features)                            # (B, 192) -> (B, 2, 3) m
    features = torch.cat([features, auxiliary.features(offsets)], dim=-1)
    outputs = auxiliary.add_loss(outputs, offsets, batch)    # in training

Levine et al., "End-to-End Training of Deep Visuomotor Policies", JMLR 2016, pretrained on positions in the
same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models.features import HAND, SCALES
from simscaleai.tensor_types import Batch

HIDDEN_DIM = 256
LOSS_SCALE = 0.05  # m: errors above it count linearly, since an action moves the hand by no more
OUTPUT_SCALE = 0.1  # m: of the network's output, so that its weights start at the right size
FEATURE_SCALE = 0.2  # m: a position as a feature of about unit size


class AuxiliaryPositions(nn.Module):
    """Predicts positions relative to the hand with an MLP of two hidden layers.

    Args:
      input_dim: width of the features that it predicts from.
      keys: names of the positions, entries of 3 numbers in the dataset such as "object_pos".
      weight: of its loss beside that of the actions.

    Attributes:
      privileged_keys: what `batch["privileged"]` holds; see `declarations`.
      width: width of `features`.

    Raises:
      UserError: no names, a name twice, or the hand itself among them.
    """

    def __init__(self, input_dim: int, keys: Sequence[str], weight: float = 1.0) -> None:
        super().__init__()
        if not keys or HAND in keys or len(set(keys)) < len(keys):
            raise UserError(
                f"auxiliary is {list(keys)}; name each position other than {HAND!r} once, or leave it out."
            )
        if not weight > 0:
            raise UserError(f"auxiliary_weight is {weight}; it must be above 0.")
        self.keys, self.weight = tuple(keys), weight
        self.privileged_keys = (HAND, *keys)
        self.width = 3 * len(keys) * (1 + len(SCALES))
        self.net = nn.Sequential(
            nn.Linear(input_dim, HIDDEN_DIM),
            nn.SiLU(),
            nn.Linear(HIDDEN_DIM, HIDDEN_DIM),
            nn.SiLU(),
            nn.Linear(HIDDEN_DIM, 3 * len(keys)),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, input_dim) -> offsets from the hand (B, K, 3), m."""
        return OUTPUT_SCALE * self.net(features).unflatten(-1, (len(self.keys), 3))

    def features(self, offsets: torch.Tensor) -> torch.Tensor:
        """Offsets (B, K, 3), m -> (B, width): scaled, and their tanh over each of `SCALES`.

        The tanh resolve the last millimeters, as in `features.RelativePositions`.
        """
        flat = offsets.flatten(1)  # (B, 3 K)
        near = [torch.tanh(flat / scale) for scale in SCALES]
        return torch.cat([flat / FEATURE_SCALE, *near], dim=-1)

    def add_loss(
        self,
        outputs: Mapping[str, torch.Tensor],
        offsets: torch.Tensor,
        batch: Batch,
    ) -> dict[str, torch.Tensor]:
        """Return a model's outputs with this loss added to "loss".

        Args:
          outputs: with the scalar "loss".
          offsets: (B, K, 3), as `forward` gave them.
          batch: "privileged" {key: (B, 3)}, positions in one frame of reference, m; the hand's among them.

        Returns:
          also "auxiliary_loss", and "<key>_error_cm", mean distances between predicted and true position.

        Raises:
          UserError: the batch has no privileged positions.
        """
        positions = batch.get("privileged")
        if positions is None:
            raise UserError(
                f"The batch has no 'privileged' positions, which auxiliary={list(self.keys)} learns from;"
                " train on a dataset that has them, or leave auxiliary out."
            )
        targets = torch.stack([positions[key] - positions[HAND] for key in self.keys], dim=1)
        loss = F.smooth_l1_loss(offsets / LOSS_SCALE, targets / LOSS_SCALE)
        errors = 100 * (offsets - targets).detach().norm(dim=-1).mean(0)  # (K,) cm
        return {
            **outputs,
            "loss": outputs["loss"] + self.weight * loss,
            "auxiliary_loss": loss.detach(),
            **{f"{key}_error_cm": error for key, error in zip(self.keys, errors, strict=True)},
        }
