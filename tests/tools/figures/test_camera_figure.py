"""Every modality of every camera."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.sim import make_env
from simscaleai.tools.figures.camera_figure import geom_labels, plot_cameras


def test_a_row_for_each_camera() -> None:
    figure = plot_cameras("pick_place", ["wrist_cam", "front_cam"], size=32)
    assert figure.get_suptitle() == "Cameras of pick_place after 0.60 s"
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in panels[:3]] == [
        "RGB",
        "Depth (m)",
        "Segmentation",
    ]
    assert [panels[0].get_ylabel(), panels[3].get_ylabel()] == ["wrist_cam", "front_cam"]
    assert panels[0].images[0].get_array().shape == (32, 32, 3)
    wrist = panels[1].images[0].get_array()
    assert 0.02 < wrist.min() < wrist.max() < 0.5
    # the sky has no depth, and a floor far behind does not take the colors from what is near
    front = panels[4].images[0]
    assert np.ma.getmaskarray(front.get_array()).any()
    assert front.get_clim()[1] < 4 < front.get_array().max()
    legends = [{text.get_text() for text in panels[i].get_legend().get_texts()} for i in (2, 5)]
    assert legends[0] >= {"robot", "table_top", "object"}
    assert legends[1] >= {"robot", "table_top", "floor", "nothing"}
    # as many colors as the legend has names
    for panel, names in zip((panels[2], panels[5]), legends, strict=True):
        colors = np.unique(panel.images[0].get_array().reshape(-1, 3), axis=0)
        assert len(colors) == len(names)


def test_all_cameras_at_the_start() -> None:
    figure = plot_cameras("reach", n_steps=0, size=16)
    assert figure.get_suptitle() == "Cameras of reach after 0.00 s"
    rows = [axes.get_ylabel() for axes in figure.axes if axes.images and axes.get_ylabel()]
    env: Any = make_env("reach", cameras=[])
    assert rows == [env.model.camera(i).name for i in range(env.model.ncam)]


def test_an_unknown_camera() -> None:
    with pytest.raises(UserError, match=r"Unknown camera 'wrist'.*Did you mean 'wrist_cam'"):
        plot_cameras("reach", ["wrist"])


def test_the_arm_is_one_thing() -> None:
    env: Any = make_env("pick_place", cameras=[])
    things = geom_labels(env.model)
    assert set(things) == {"robot", "table", "table_top", "floor", "object", "target"}
    assert things[env.model.geom("left_pad").id] == "robot"
    assert things[env.model.geom("object").id] == "object"
