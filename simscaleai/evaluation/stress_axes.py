"""The axes of `simscale stress`: what is changed, in which levels, and which policies it concerns.

A further axis is a `Perturbation` and an entry of `AXES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simscaleai.errors import UserError, unknown_name
from simscaleai.evaluation.stress_core import Perturbation
from simscaleai.evaluation.stress_scene import (
    CameraPose,
    Friction,
    Lighting,
    ObjectMass,
    ObjectPlacement,
    RobotStart,
    SurfaceColors,
    has_objects,
    placed_bodies,
)
from simscaleai.evaluation.stress_signals import (
    ActionDelay,
    ActionNoise,
    Counterfactual,
    ImageCorruption,
    InstructionWording,
    SensorNoise,
)
from simscaleai.observations import is_image_key
from simscaleai.rollout.policy_source import PolicySource
from simscaleai.sim.core import TaskCore

Concerns = Callable[[PolicySource, TaskCore], str]
"""Why an axis means nothing for a policy in its environment, to end a sentence; "" if it does."""


@dataclass(frozen=True)
class Axis:
    """One thing that can be other than in training.

    Attributes:
      name: as given to `--axes`.
      unit: of a level.
      levels: the default ones, without the control at 0.
      perturbation: what is changed.
      excluded: why it means nothing for a policy.
      whole: whether levels are whole numbers.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    perturbation: type[Perturbation]
    excluded: Concerns = lambda source, core: ""
    whole: bool = False

    @property
    def description(self) -> str:
        """First sentence of what the perturbation does."""
        return (self.perturbation.__doc__ or "").split("\n")[0]

    def check_levels(self, levels: tuple[float, ...]) -> tuple[float, ...]:
        """Return the levels in their order, each once; UserError for those that the axis does not have."""
        # 0 is the control, which every axis has
        for level in levels:
            if not 0 < level < np.inf or (self.whole and level != int(level)):
                kind = "whole numbers above 0" if self.whole else "numbers above 0"
                raise UserError(
                    f"Levels of {self.name!r} are {kind} ({self.unit}), and {level:g} is none; the control"
                    " at 0 is run in any case."
                )
        return tuple(sorted(set(levels)))


def _no_images(source: PolicySource, core: TaskCore) -> str:
    return "" if core.config.cameras else "the policy reads no images"


def _no_numbers(source: PolicySource, core: TaskCore) -> str:
    # the expert reads whatever the environment observes, and a checkpoint what its data had
    spec = source.model.spec if source.model is not None else None
    only_images = spec is not None and all(map(is_image_key, spec.shapes))
    return "the policy reads images alone" if only_images else ""


def _no_objects(source: PolicySource, core: TaskCore) -> str:
    # friction acts on contacts, and a hand that reaches for a point in the air has none
    return "" if has_objects(core) else "nothing in the scene can be moved"


def _nothing_placed(source: PolicySource, core: TaskCore) -> str:
    return "" if placed_bodies(core) else "the task places nothing"


def _reads_no_instruction(source: PolicySource) -> bool:
    # the expert knows what is asked without reading it, and shows that the scene can be solved
    return source.model is not None and not source.model.declared.uses_language


def _no_wording(source: PolicySource, core: TaskCore) -> str:
    if not core.task.held_out:
        return "the task holds no phrasings out"
    return "the policy reads no instruction" if _reads_no_instruction(source) else ""


def _no_requests(source: PolicySource, core: TaskCore) -> str:
    if len(core.task.requests) < 2:
        return "the instruction does not choose among objects"
    return "the policy reads no instruction" if _reads_no_instruction(source) else ""


AXES = {
    axis.name: axis
    for axis in (
        Axis(
            "placement",
            "halves of the range",
            (0.1, 0.25, 0.5),
            ObjectPlacement,
            _nothing_placed,
        ),
        # from a mount that was touched to one that was set up again
        Axis("camera", "m", (0.02, 0.05, 0.1), CameraPose, _no_images),
        Axis("light", "stops", (0.5, 1.0, 2.0), Lighting, _no_images),
        Axis("colors", "of 1", (0.1, 0.2, 0.4), SurfaceColors, _no_images),
        # from what domain randomization draws to far beyond it
        Axis("friction", "halvings", (0.5, 1.0, 2.0), Friction, _no_objects),
        Axis("mass", "doublings", (1.0, 2.0, 3.0), ObjectMass, _no_objects),
        Axis("robot-start", "rad", (0.05, 0.1, 0.2), RobotStart),
        # 50 ms each: of a network, of a large model, of both
        Axis("action-delay", "steps", (1.0, 2.0, 4.0), ActionDelay, whole=True),
        Axis("action-noise", "of an action", (0.1, 0.2, 0.4), ActionNoise),
        # from a good tracker to a poorly calibrated camera
        Axis("sensor-noise", "m, rad", (0.002, 0.005, 0.01), SensorNoise, _no_numbers),
        Axis("image", "of white", (0.05, 0.1, 0.2), ImageCorruption, _no_images),
        Axis("wording", "kind", (1.0, 2.0), InstructionWording, _no_wording, whole=True),
        Axis("counterfactual", "request", (), Counterfactual, _no_requests, whole=True),
    )
}
"""All axes by name; the levels of `counterfactual` are the requests of the task."""


def find_axes(names: list[str]) -> list[Axis]:
    """Return the axes of these names, each once, or all; UserError for an unknown one."""
    for name in names:
        if name not in AXES:
            raise unknown_name("axis", name, AXES)
    return [AXES[name] for name in dict.fromkeys(names)] if names else list(AXES.values())
