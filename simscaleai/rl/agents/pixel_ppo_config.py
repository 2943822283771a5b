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
      encoder_lr: above 0, the actor's encoder learns from the positions alone, at this learning rate, also
        while the critic warms up; the gradient of the policy ends at its features. It is far noisier, and
        would undo what a clone can see.
      critic_lr: above 0, the learning rate of the critic; `lr`, which `target_kl` adapts, is then that of the
        policy.
      demonstrations: a dataset that the actor imitates beside what it learns from reward.
      demonstration_weight: weight of its negative log-likelihood at first; it falls linearly to 0 at the end.
      image_embed_dim, backbone_width: of the image encoders, see `BehaviorCloning`.
      shapes: {key: shape} of what the environment observes; taken from it.
    """

    actor_keys: list[str] = field(default_factory=lambda: ["ee_pos"])
    auxiliary: list[str] = field(default_factory=list)
    auxiliary_weight: float = 1.0
    encoder_lr: float = 0.0
    critic_lr: float = 0.0
    demonstrations: str | None = None
    demonstration_weight: float = 0.1
    # half of what cloning uses: an image is drawn for one step and learned from in every epoch
    image_embed_dim: int = 64
    backbone_width: int = 16
    shapes: dict[str, list[int]] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return a clause for each setting that is out of range."""
        wrong = [*super().problems(), *self.not_positive("image_embed_dim", "backbone_width")]
        if self.relative_positions:
            wrong.append("relative_positions is true, and pixel_ppo finds positions in images")
        if self.encoder_lr > 0 and not self.auxiliary:
            wrong.append(
                "encoder_lr is set, and auxiliary names no positions for the encoder to learn"
            )
        return wrong
