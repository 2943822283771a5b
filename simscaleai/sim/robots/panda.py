"""The Franka Emika Panda with the Franka Hand; its MJCF is `assets/panda.xml`."""

from __future__ import annotations

import math

from simscaleai.sim.robots.robot import Gripper, Robot

# Franka Hand datasheet: each finger travels 0 to 40 mm.
FINGER_TRAVEL = 0.04

PANDA = Robot(
    name="panda",
    mjcf="panda.xml",
    arm_joints=tuple(f"joint{i}" for i in range(1, 8)),
    gripper=Gripper(
        joints=("finger_joint1", "finger_joint2"),
        actuator="gripper",
        joint_closed=0.0,
        joint_open=FINGER_TRAVEL,
        ctrl_closed=0.0,
        ctrl_open=FINGER_TRAVEL,
        travel=FINGER_TRAVEL,
    ),
    ee_site="ee",
    # The tool center point at x = 0.45, y = 0, z = 0.30 m, pointing straight down: the solution of the arm's
    # kinematics in the vertical plane (joints 1, 3, 5 at zero).
    home=(0.0, -0.2594317708, 0.0, -2.4314846701, 0.0, 2.1720528994, math.pi / 4),
    # Franka Control Interface, "Limits for Panda": joint velocity, rad/s.
    velocity_limits=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    # In front of the base, above the table, inside reach (855 mm from the shoulder). The lowest z keeps the
    # finger pads (9 mm below the point) off the table.
    workspace=((0.22, -0.45, 0.012), (0.78, 0.45, 0.70)),
    # The same at x = 0.33 m, found in the same way.
    poses={"near": (0.0, -0.6697053367, 0.0, -2.7667897596, 0.0, 2.0970844229, math.pi / 4)},
    tasks=(
        "reach",
        "pick_place",
        "reach_color",
        "pick_place_color",
        "sort",
        "reach_around",
        "reach_goal",
        "pick_place_goal",
    ),
)
