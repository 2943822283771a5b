"""Settings of PPO from images."""

from __future__ import annotations

from dataclasses import dataclass, field

from simscaleai.rl.agents.ppo_config import PPOConfig


@dataclass
class PixelPPOConfig(PPOConfig):
    """Settings of PPO, and of an actor that reads images.

    Attributes:
      actor_keys: vectors that the actor reads besides the images: what a robot knows of itself. The critic
        reads all vectors, or `state_keys`.
      auxiliary: positions that the actor learns to predict from its images, such as "target_pos"; the
        simulation knows them while training, and acting does without.
      auxiliary_weight: weight of their loss.
      image_embed_dim, backbone_width: of the image encoders, see `BehaviorCloning`.
      shapes: {key: shape} of what the environment observes; taken from it.
    """

    actor_keys: list[str] = field(default_factory=lambda: ["ee_pos"])
    auxiliary: list[str] = field(default_factory=list)
    auxiliary_weight: float = 1.0
    # half of what cloning uses: an image is drawn for one step and learned from in every epoch
    image_embed_dim: int = 64
    backbone_width: int = 16
    shapes: dict[str, list[int]] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return a clause for each setting that is out of range."""
        wrong = [*super().problems(), *self.not_positive("image_embed_dim", "backbone_width")]
        if self.relative_positions:
            wrong.append("relative_positions is true, and pixel_ppo finds positions in images")
        return wrong
