"""An actor that reads images and a critic that reads the state, and the flat observations of both.

A critic is needed in training only, in simulation, where the state is known. It then has an easy problem, and
the actor alone has to see (Pinto et al., "Asymmetric Actor Critic for Image-Based Robot Learning", RSS 2018).
The actor also predicts positions from its images, which the simulation knows too (`models.auxiliary`).

An agent reads one array (n, width). Here it has all vectors of the observation and then the pixels of its
images; `PixelLayout` says where each of them is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.distributions import Normal

from simscaleai.errors import UserError, unknown_name
from simscaleai.models.bc import BehaviorCloning
from simscaleai.models.features import HAND
from simscaleai.models.mlp import mlp, orthogonal
from simscaleai.models.registry import create_model
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.actor_critic import ActorCritic
from simscaleai.rl.agents.pixel_ppo_config import PixelPPOConfig
from simscaleai.rl.agents.state_extractor import StateExtractor
from simscaleai.tensor_types import Tensors


class PixelLayout:
    """Where the parts of a flat observation are: vectors, then pixels.

    Args:
      shapes: {key: shape} of the vectors that the critic reads and of the images.
      actor_keys: vectors that the actor reads too.
      positions: vectors of 3 numbers that the actor learns to predict.

    Attributes:
      vectors, images: {key: slice} of the flat observation.
      state_dim: width of all vectors together.
      width: width of the flat observation.

    Raises:
      UserError: a key is no vector of the observation, or there is no image.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        actor_keys: Sequence[str],
        positions: Sequence[str],
    ) -> None:
        self.shapes = {key: tuple(shape) for key, shape in shapes.items()}
        images = sorted(key for key, shape in self.shapes.items() if len(shape) == 3)
        vectors = sorted(self.shapes.keys() - set(images))
        for name, keys in (("actor_keys", actor_keys), ("auxiliary", positions)):
            for key in keys:
                if key not in vectors:
                    raise unknown_name(f"entry of {name}", key, vectors)
        if not images:
            raise UserError(
                "The agent 'pixel_ppo' reads images, and the environment observes none; name cameras in"
                " env.cameras."
            )
        self.vectors: dict[str, slice] = {}
        self.images: dict[str, slice] = {}
        start = 0
        for keys, slices in ((vectors, self.vectors), (images, self.images)):
            for key in keys:
                stop = start + math.prod(self.shapes[key])
                slices[key] = slice(start, stop)
                start = stop
        self.width = start
        self.state_dim = sum(s.stop - s.start for s in self.vectors.values())
        self.actor_keys, self.positions = sorted(actor_keys), tuple(positions)

    @property
    def spec(self) -> ObsSpec:
        """All entries."""
        keys = [*self.vectors, *self.images]
        return self._spec(keys)

    @property
    def actor_spec(self) -> ObsSpec:
        """Entries that the actor reads."""
        return self._spec([*self.actor_keys, *self.images])

    def _spec(self, keys: Sequence[str]) -> ObsSpec:
        chosen = sorted(keys)
        dtypes = {key: "uint8" if key in self.images else "float32" for key in chosen}
        return ObsSpec({key: self.shapes[key] for key in chosen}, dtypes)

    def columns(self, keys: Sequence[str]) -> list[int]:
        """Return the columns of vectors, in the order of `keys`."""
        return [i for key in keys for i in range(self.vectors[key].start, self.vectors[key].stop)]


class PixelExtractor(StateExtractor):
    """Extracts flat observations in a fixed layout."""

    def __init__(self, layout: PixelLayout) -> None:
        super().__init__()
        self._layout = layout
        super().extract(layout.spec)

    @property
    def keys(self) -> Sequence[str]:
        return [*self._layout.vectors, *self._layout.images]

    def extract(self, spec: ObsSpec) -> None:
        """Keep the layout: the specification in a checkpoint is that of the actor."""


class PixelActorCritic(ActorCritic):
    """The model `bc` as the mean of a Gaussian policy, and an MLP on the state as its value function.

    Args:
      layout: of the flat observations.
      action_dim: width of an action.
      config: settings of the networks.

    Attributes:
      actor: a `BehaviorCloning` model, which a checkpoint rebuilds by name.
      position_errors: {"<key>_error_cm": mean distance between predicted and true position} in the last
        `forward` with gradients.
    """

    actor: BehaviorCloning  # type: ignore[assignment] # which has an encoder and a head
    critic_features: nn.Sequential
    actor_columns: torch.Tensor  # int64, of what the actor reads

    def __init__(self, layout: PixelLayout, action_dim: int, config: PixelPPOConfig) -> None:
        nn.Module.__init__(self)  # with networks of its own
        self.layout = layout
        height, width, channels = layout.shapes[next(iter(layout.images))]
        if height != width:
            raise UserError(f"Images are {height}x{width} pixels; pixel_ppo reads square ones.")
        several = list(layout.images) != ["image"]
        actor = create_model(
            "bc",
            state_dim=len(layout.columns(layout.actor_keys)),
            action_dim=action_dim,
            hidden_dim=config.hidden_dim,
            n_layers=config.n_layers,
            use_image=not several,
            cameras=[key.removeprefix("images/") for key in layout.images] if several else None,
            image_channels=channels,
            image_size=height,
            image_embed_dim=config.image_embed_dim,
            backbone_width=config.backbone_width,
            dropout=0.0,  # an action must have the same probability when it is learned from
            auxiliary=list(layout.positions) or None,
            auxiliary_weight=config.auxiliary_weight,
        )
        assert isinstance(actor, BehaviorCloning)
        self.actor = actor
        self.log_std = nn.Parameter(torch.full((action_dim,), float(config.log_std_init)))
        self.critic_features, features = mlp(layout.state_dim, config.hidden_dim, config.n_layers)
        self.critic = orthogonal(nn.Linear(features, 1), 1.0)
        # nearly the same small action for every image at first: exploration comes from the noise alone
        last = [layer for layer in actor.head.modules() if isinstance(layer, nn.Linear)][-1]
        orthogonal(last, 0.01)
        columns = torch.tensor(layout.columns(layout.actor_keys), dtype=torch.int64)
        self.register_buffer("actor_columns", columns, persistent=False)
        self._auxiliary_loss: torch.Tensor | None = None
        self.position_errors: Tensors = {}
        self._detached = config.encoder_lr > 0

    def observations(self, obs: torch.Tensor) -> Tensors:
        """Return what the actor reads of flat observations (B, width): {"state", image keys}."""
        found = {"state": obs[:, self.actor_columns]}  # (B, d)
        for key, pixels in self.layout.images.items():
            image = obs[:, pixels].unflatten(1, self.layout.shapes[key])  # (B, H, W, C)
            found[key] = image.permute(0, 3, 1, 2)  # (B, C, H, W)
        return found

    def mean(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the mean actions (B, action_dim) for flat observations (B, width)."""
        actions: torch.Tensor = self.actor.head(self.actor.encoder(self.observations(obs)).features)
        return actions

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the values (B,) of flat observations."""
        values: torch.Tensor = self.critic(self.critic_features(obs[:, : self.layout.state_dim]))
        return values[:, 0]

    def forward(self, obs: torch.Tensor) -> tuple[Normal, torch.Tensor]:
        """Return the distribution of actions (B, action_dim) and values (B,).

        Args:
          obs: (B, width + 3 (1 + K)), flat observations followed by the raw positions of the hand and of
            the K auxiliary targets, m; (B, width) without auxiliary targets.
        """
        encoded = self.actor.encoder(self.observations(obs))
        features = encoded.features.detach() if self._detached else encoded.features
        mean = self.actor.head(features)  # (B, action_dim)
        if encoded.offsets is not None and torch.is_grad_enabled():
            raw = obs[:, self.layout.width :].unflatten(1, (-1, 3))  # (B, 1 + K, 3)
            names = (HAND, *self.layout.positions)
            positions = dict(zip(names, raw.unbind(1), strict=True))
            auxiliary = self.actor.encoder.auxiliary
            assert auxiliary is not None
            outputs = auxiliary.add_loss(
                {"loss": mean.new_zeros(())},
                encoded.offsets,
                {"observations": {}, "actions": mean, "privileged": positions},
            )
            self._auxiliary_loss = outputs["loss"]
            self.position_errors = {
                name: value for name, value in outputs.items() if name.endswith("_error_cm")
            }
        return Normal(mean, self.log_std.exp(), validate_args=False), self.value(obs)

    def imitation_loss(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the mean of the squared error of actions (B, action_dim) in units of the noise, / 2.

        It is the negative log-likelihood of the actions, but for a term of the noise, which reward decides.
        Its gradient reaches the encoder too, which has to stay one that the head can read.
        """
        errors = (self.mean(obs) - actions) / self.log_std.detach().exp()
        return errors.square().sum(-1).mean() / 2

    def take_auxiliary_loss(self) -> torch.Tensor | None:
        """Return the weighted loss of the positions in the last `forward` with gradients, once."""
        loss, self._auxiliary_loss = self._auxiliary_loss, None
        return loss
