"""The bundled robot stays as it is, whatever a user's scene says about angles, masses and defaults."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from simscaleai.sim import make_env
from simscaleai.sim.robots.panda import PANDA
from simscaleai.sim.scene import ASSETS, load_model

ROBOT = '<include file="panda.xml"/>'
SETTINGS = {  # of the user's scene: what becomes of the robot
    '<compiler angle="degree"/>': None,
    '<compiler angle="degree" eulerseq="zyx"/>': None,
    '<compiler meshdir="my_meshes" texturedir="my_textures"/>': None,
    '<compiler assetdir="my_assets"/>': None,
    '<compiler strippath="true"/>': None,
    '<compiler discardvisual="true"/>': None,
    '<compiler autolimits="false"/>': "autolimits",
    '<compiler settotalmass="1"/>': "body_",
    '<compiler boundmass="2" boundinertia="0.1"/>': "body_",
    '<compiler fusestatic="true"/>': "'link0' is gone",
    '<default><joint frictionloss="50"/></default>': "dof_frictionloss of 'joint1'",
    '<default><joint ref="0.2"/></default>': "qpos0 of 'joint1'",
    '<default><geom friction="0.1"/></default>': "geom_friction",
    '<default><position forcerange="-1 1"/></default>': "actuator_forcelimited of 'joint1'",
}


@pytest.mark.filterwarnings("ignore:compiler attribute")  # deprecated, and still there
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("first", [True, False])
def test_a_users_settings_leave_the_robot_as_it_is(
    setting: str, first: bool, scene: Callable[..., str], own: str, refused: Callable[..., str]
) -> None:
    text = own.replace(ROBOT, f"{setting}{ROBOT}" if first else ROBOT)
    path = scene(text if first else text.replace("</mujoco>", f"{setting}</mujoco>"))
    mention = SETTINGS[setting]
    if "default" in setting and not first:
        mention = None  # classes of the robot have been made by then
    if mention is not None:
        refused(
            lambda: make_env("reach", cameras=[], xml_path=path),
            "panda.xml" if mention[0] != "a" or "_" in mention else path,
            mention,
        )
        return
    changed, bundled = load_model(path, 0.002), load_model(ASSETS / "reach.xml", 0.002, PANDA)
    assert changed.ntext == 0  # no mark is left
    for name in ("joint2", "joint4", "finger_joint1"):
        np.testing.assert_allclose(changed.joint(name).range, bundled.joint(name).range, rtol=1e-12)
        np.testing.assert_allclose(
            changed.actuator("joint2").ctrlrange, bundled.actuator("joint2").ctrlrange, rtol=1e-12
        )
    np.testing.assert_array_equal(changed.body("hand").inertia, bundled.body("hand").inertia)


def test_a_users_own_robot_may_differ(scene: Callable[..., str], own: str) -> None:
    panda = (ASSETS / "panda.xml").read_text()
    scene(panda.replace('damping="1"', 'damping="3"', 1), "panda.xml")
    model = load_model(scene(own.replace(ROBOT, f'<compiler angle="radian"/>{ROBOT}')), 0.002)
    assert model.joint("joint1").damping == 3
