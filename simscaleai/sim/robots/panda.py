"""The Franka Emika Panda as the rest of the code knows it; its MJCF is `assets/panda.xml`."""

from __future__ import annotations

import math

ARM_JOINTS = tuple(f"joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("finger_joint1", "finger_joint2")
EE_SITE = "ee"
PADS = ("left_pad", "right_pad")  # geoms that touch what is held
GRIPPER_ACTUATOR = "gripper"

# Joint angles (rad) with the tool centre point at x = 0.45, y = 0, z = 0.30 m, pointing straight down:
# the solution of the arm's kinematics in the vertical plane (joints 1, 3, 5 at zero).
HOME_ARM = (0.0, -0.2594317708, 0.0, -2.4314846701, 0.0, 2.1720528994, math.pi / 4)

# Franka Control Interface, "Limits for Panda": joint velocity, rad/s.
VELOCITY_LIMITS = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)

# Franka Hand datasheet: each finger travels 0 to 40 mm.
FINGER_TRAVEL = 0.04

# Where the tool centre point may be sent (m): in front of the base, above the table, inside reach
# (855 mm from the shoulder). The lowest z keeps the finger pads (9 mm below the point) off the table.
WORKSPACE_LOW = (0.22, -0.45, 0.012)
WORKSPACE_HIGH = (0.78, 0.45, 0.70)
