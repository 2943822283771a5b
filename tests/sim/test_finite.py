"""Scenes with NaN or absurd numbers are refused when they are loaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.scene import load_model

NOT_FINITE = {
    "mat_texrepeat of 'm'": '<asset><material name="m" texrepeat="nan 1"/></asset>',
    "mat_texrepeat": '<asset><material name="m" texrepeat="1 1e38"/></asset>',
    "mat_specular": '<asset><material name="m" specular="nan"/></asset>',
    "geom_rgba": "<worldbody><geom size='.1' rgba='nan 0 0 1'/></worldbody>",
    "geom_pos": "<worldbody><geom size='1' pos='nan 0 0'/></worldbody>",
    "geom_friction": "<worldbody><geom size='.1' friction='nan 0 0'/></worldbody>",
    "geom_size": "<worldbody><geom type='plane' size='1e300 1 1'/></worldbody>",
    "body_mass": "<worldbody><body><freejoint/><geom size='.1' mass='1e11'/></body></worldbody>",
    "light_diffuse": "<worldbody><light diffuse='nan 0 0'/></worldbody>",
    "cam_fovy of 'c'": "<worldbody><camera name='c' fovy='nan'/></worldbody>",
    "cam_pos of 'c'": "<worldbody><camera name='c' pos='inf 0 0'/></worldbody>",
    "hfield_data of 'h'": "<asset><hfield name='h' nrow='2' ncol='2' size='1 1 1 1' elevation='0 0 nan 1'/>"
    "</asset>",
    "option.gravity": "<option gravity='0 0 nan'/>",
    "option.wind": "<option wind='inf 0 0'/>",
    "headlight.ambient": "<visual><headlight ambient='nan 0 0'/></visual>",
    "global.fovy": "<visual><global fovy='nan'/></visual>",
    "sensor_cutoff": "<sensor><jointpos joint='joint1' cutoff='nan'/></sensor>",
    "actuator_gainprm": "<actuator><motor joint='joint1' gear='1'/>"
    "<general joint='joint1' gainprm='nan'/></actuator>",
    "key_qpos": "<keyframe><key qpos='nan 0 0 0 0 0 0 0 0'/></keyframe>",
}


@pytest.mark.parametrize("field", NOT_FINITE)
def test_numbers_that_are_not_finite(
    field: str, scene: Callable[..., str], own: str, refused: Callable[..., str]
) -> None:
    path = scene(own.replace("</mujoco>", NOT_FINITE[field] + "</mujoco>"))
    refused(lambda: make_env("reach", cameras=[], xml_path=path), path, field)
    refused(lambda: make_vec_env("reach", 2, xml_path=path), path, field)


def test_ranges_may_be_infinite(scene: Callable[..., str], own: str) -> None:
    motor = "<actuator><motor joint='joint1' ctrlrange='0 inf'/></actuator></mujoco>"
    assert load_model(scene(own.replace("</mujoco>", motor)), 0.002).nu == 9
