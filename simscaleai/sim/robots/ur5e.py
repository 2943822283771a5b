"""The Universal Robots UR5e with a two-finger gripper of 85 mm stroke; its MJCF is `assets/ur5e.xml`."""

from __future__ import annotations

import math

from simscaleai.sim.robots.robot import Gripper, Robot

UR5E = Robot(
    name="ur5e",
    mjcf="ur5e.xml",
    arm_joints=(
        "shoulder_pan_joint",
        "shoulder_lift_joint",
        "elbow_joint",
        "wrist_1_joint",
        "wrist_2_joint",
        "wrist_3_joint",
    ),
    gripper=Gripper(
        joints=("left_finger_slide", "right_finger_slide"),
        actuator="ur_gripper",
        joint_closed=0.0425,
        joint_open=0.0,
        ctrl_closed=255.0,
        ctrl_open=0.0,
        travel=0.0425,
    ),
    ee_site="tcp",
    # The tool center point at x = 0.45, y = 0, z = 0.30 m, pointing straight down, elbow up.
    home=(-0.3007349195, -1.7140122338, 1.7996571841, -1.6564412771, -1.5707963268, -1.8715312463),
    # "UR5e technical details", Universal Robots: every joint at most 180 degrees per second.
    velocity_limits=(math.pi,) * 6,
    # In front of the base, above the table, inside reach (850 mm). The lowest z keeps the finger pads (9 mm
    # below the point) off the table.
    workspace=((0.22, -0.45, 0.012), (0.78, 0.45, 0.70)),
    geoms={
        "left_pad": "ur_left_pad",
        "right_pad": "ur_right_pad",
        "hand_collision": "ur_hand",
        "forearm_collision": "ur_forearm",
    },
    poses={
        # The same at x = 0.33 m.
        "near": (
            -0.4158191296,
            -2.0341649785,
            2.0165316364,
            -1.5531629847,
            -1.5707963268,
            -1.9866154564,
        )
    },
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
