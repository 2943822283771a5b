"""Shadow maps: depth images of the meshes as the shadow-casting lights see them.

A map is fitted to the meshes of the scene as seen from the light, so that its pixels are fine however wide
the light shines. Geoms that are not meshes cast their shadows by rays (`kernels.lighting`).

Trap: a light among the meshes covers those within 76 degrees of the line to their center only.
"""

import warp as wp

from simscaleai.rendering.kernels.raster import (
    NEAR,
    Scratch,
    bin_meshes,
    make_viewport,
    nearest_faces,
    tile_origin,
)
from simscaleai.rendering.kernels.render_scene import DIRECTIONAL, RenderScene, bounding_sphere
from simscaleai.rendering.kernels.tile_types import OPTIONS, PIXELS, TileFloat, TileVec3
from simscaleai.rendering.loading import TILE

wp.set_module_options(OPTIONS)

WIDEST = 4.0  # largest half width of a map at distance 1: tan(76 degrees)
DISTANCE = (
    20.0  # distance of the camera that stands for a directional light, in extents of the scene
)


@wp.func
def fit_map(scene: RenderScene, env_id: int, map_id: int):
    """Return position, axes (columns right, up, back) and pixel size at distance 1 of a shadow map."""
    # Bounding box of all meshes, world frame.
    low = wp.vec3(1.0e8, 1.0e8, 1.0e8)
    up = -low
    for i in range(scene.mesh_geoms.shape[0]):
        center, radius = bounding_sphere(scene, env_id, scene.mesh_geoms[i])
        around = wp.vec3(radius, radius, radius)
        low = wp.min(low, center - around)
        up = wp.max(up, center + around)
    target = 0.5 * (low + up)
    # Look from the light at its center.
    light = scene.map_lights[map_id]
    eye = scene.light_xpos[env_id, light]
    if scene.light_type[light] == wp.static(DIRECTIONAL):
        eye = target - scene.light_xdir[env_id, light] * (wp.static(DISTANCE) * scene.stat_extent)
    back = wp.normalize(eye - target)
    side = wp.where(wp.abs(back[2]) < 0.9, wp.vec3(0.0, 0.0, 1.0), wp.vec3(1.0, 0.0, 0.0))
    right = wp.normalize(wp.cross(side, back))
    axes = wp.matrix_from_cols(right, wp.cross(back, right), back)
    # The narrowest field of view that holds all bounding spheres.
    half = float(0.0)
    for i in range(scene.mesh_geoms.shape[0]):
        center, radius = bounding_sphere(scene, env_id, scene.mesh_geoms[i])
        v = wp.transpose(axes) @ (center - eye)
        ahead = -v[2] - radius
        beside = wp.max(wp.abs(v[0]), wp.abs(v[1])) + radius
        slope = wp.where(
            ahead * wp.static(WIDEST) > beside, beside / wp.max(ahead, 1.0e-6), wp.static(WIDEST)
        )
        half = wp.max(half, slope)
    return eye, axes, 2.0 * half / float(scene.map_size)


@wp.kernel
def render_shadow_maps(
    scene: RenderScene, scratch: Scratch, env_ids: wp.array(dtype=int), first: int, bands: int
):
    """Draw band first + tid of shadow maps, counted over `env_ids`, their maps and the bands of a map."""
    maps = scene.map_xpos.shape[1]
    work = first + wp.tid()
    env_id = env_ids[work // (bands * maps)]
    map_id = work // bands % maps
    band = work % bands
    eye, rotation, pixel_size = fit_map(scene, env_id, map_id)
    if band == 0:  # every band computes the same pose; one writes it
        scene.map_xpos[env_id, map_id] = eye
        scene.map_xmat[env_id, map_id] = rotation
        scene.map_pixel_size[env_id, map_id] = pixel_size
    size = scene.map_size
    center = wp.vec2(0.5 * float(size), 0.5 * float(size))
    viewport = make_viewport(env_id, eye, rotation, pixel_size, center, size, size, band, bands)
    bin_meshes(scene, scratch, viewport)
    for tile in range(viewport.tiles):
        x0, y0 = tile_origin(viewport, tile)
        inv_depth, _face_ids = nearest_faces(scratch, tile, x0, y0, 0.0)
        for y in range(wp.min(wp.static(TILE), size - y0)):
            for x in range(wp.min(wp.static(TILE), size - x0)):
                at = (y0 + y) * size + x0 + x
                scene.map_inv_depth[env_id * maps + map_id, at] = inv_depth[y * wp.static(TILE) + x]


@wp.func
def shadow_map_visibility(
    scene: RenderScene, env_id: int, map_id: int, points: TileVec3, normals: TileVec3
):
    """Return how much of a light reaches each point past the meshes, (64,) in [0, 1].

    Percentage-closer filtering over the four nearest pixels of the map. Points are moved along their normals
    by two of the map's pixels (normal offset), or surfaces would cast shadows on themselves.
    """
    visibility = TileFloat()
    pixel_size = scene.map_pixel_size[env_id, map_id]
    to_map = wp.transpose(scene.map_xmat[env_id, map_id])
    eye = scene.map_xpos[env_id, map_id]
    size = scene.map_size
    slot = env_id * scene.map_xpos.shape[1] + map_id
    center = 0.5 * float(size) - 0.5
    for i in range(wp.static(PIXELS)):
        v = points[:, i] - eye
        q = to_map @ (v + normals[:, i] * (2.0 * pixel_size * wp.length(v)))
        inv_depth = 1.0 / wp.max(-q[2], wp.static(NEAR))
        x = center + q[0] * inv_depth / pixel_size
        y = center - q[1] * inv_depth / pixel_size
        # What lies outside the map is lit.
        off_center = wp.max(wp.abs(x - center), wp.abs(y - center))
        inside = off_center < center and q[2] < -wp.static(NEAR)
        column = wp.where(inside, int(x), 0)
        line = wp.where(inside, int(y), 0)
        fx = x - float(column)
        fy = y - float(line)
        at = line * size + column
        # A further bias of one pixel's depth; then bilinear weights of the pixels that are not nearer.
        inv_depth = inv_depth * (1.0 + pixel_size)
        top = wp.where(scene.map_inv_depth[slot, at] <= inv_depth, 1.0 - fx, 0.0)
        top += wp.where(scene.map_inv_depth[slot, at + 1] <= inv_depth, fx, 0.0)
        low = wp.where(scene.map_inv_depth[slot, at + size] <= inv_depth, 1.0 - fx, 0.0)
        low += wp.where(scene.map_inv_depth[slot, at + size + 1] <= inv_depth, fx, 0.0)
        visibility[i] = wp.where(inside, top * (1.0 - fy) + low * fy, 1.0)
    return visibility
