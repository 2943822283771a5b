"""Images from the cameras of a scene: RGB, metric depth and segmentation, of one or many simulations.

    renderer = Renderer(model, [CameraConfig("front_cam", 64, 64)], n=16)
    rgb = renderer.render(sim.render_state())["front_cam"]["rgb"]  # (16, 64, 64, 3) uint8

Two engines draw: "warp" traces rays and needs no OpenGL, "gl" is MuJoCo's own renderer. "auto" takes warp
where mujoco-warp is installed; `Renderer.engine` says which one draws. Engines are made at the first
image. Both draw the same things: geoms of groups 0 to 2, and no sites.

Depth is the distance along the optical axis in m (what a depth camera gives, not the length of the ray),
and 0 where nothing is.
"""

from simscaleai.rendering.engine import ENGINES, Engine, Images
from simscaleai.rendering.render_camera import RenderCamera
from simscaleai.rendering.render_state import RenderState
from simscaleai.rendering.renderer import DEFAULT_SIZE, CameraSettings, Renderer
from simscaleai.rendering.viewer_window import Window, open_window

__all__ = [
    "DEFAULT_SIZE",
    "ENGINES",
    "CameraSettings",
    "Engine",
    "Images",
    "RenderCamera",
    "RenderState",
    "Renderer",
    "Window",
    "open_window",
]
