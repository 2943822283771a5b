"""The kernel that draws images, in tiles of 8 x 8 pixels.

Meshes are rasterized (`kernels.raster`); all other geoms are intersected with rays. Rays of a tile run nearly
parallel, so geoms are culled once per tile against the cone around its rays, and shadow casters against the
sphere around what it sees. Most rays are then tested against one or two geoms, all rays of the tile at once
(`kernels.tile_types`).
"""

import warp as wp

from simscaleai.rendering.kernels.intersect import intersect_geom
from simscaleai.rendering.kernels.lighting import GeomList, add_light, headlight, shadow_casters
from simscaleai.rendering.kernels.materials import surface_at
from simscaleai.rendering.kernels.raster import (
    Scratch,
    Viewport,
    bin_meshes,
    make_viewport,
    nearest_faces,
    tile_origin,
)
from simscaleai.rendering.kernels.render_scene import (
    PLANE,
    RenderScene,
    bounding_sphere,
    geom_color,
    support,
)
from simscaleai.rendering.kernels.tile_types import OPTIONS, PIXELS, TileFloat, TileInt, TileVec3
from simscaleai.rendering.loading import TILE

wp.set_module_options(OPTIONS)


@wp.func
def ray_slopes(viewport: Viewport, x: float, y: float):
    """Return the slopes, right and up, of the ray through the image point (x, y) in pixels."""
    return (x - viewport.center[0]) * viewport.pixel_size, (
        viewport.center[1] - y
    ) * viewport.pixel_size


@wp.func
def tile_rays(viewport: Viewport, x0: int, y0: int):
    """Return unit directions (3, 64) of a tile's rays, and depth per meter along each (64,)."""
    d = TileVec3()
    depth_scale = TileFloat()
    left, top = ray_slopes(viewport, float(x0) + 0.5, float(y0) + 0.5)
    for i in range(wp.static(PIXELS)):
        x = left + float(i % wp.static(TILE)) * viewport.pixel_size
        y = top - float(i // wp.static(TILE)) * viewport.pixel_size
        z = 1.0 / wp.sqrt(1.0 + x * x + y * y)
        d[:, i] = viewport.rotation @ wp.vec3(x * z, y * z, -z)
        depth_scale[i] = z
    return d, depth_scale


@wp.func
def cull_geoms(scene: RenderScene, viewport: Viewport, x0: int, y0: int):
    """Return the primitives that rays through a tile may meet, and how many."""
    left, top = ray_slopes(viewport, float(x0), float(y0))
    right, bottom = ray_slopes(viewport, float(x0 + wp.static(TILE)), float(y0 + wp.static(TILE)))
    # The cone around the tile's rays: its axis, and the cosine of its half angle from the corner rays.
    axis = wp.normalize(wp.vec3(0.5 * (left + right), 0.5 * (top + bottom), -1.0))
    cosine = wp.dot(axis, wp.normalize(wp.vec3(left, top, -1.0)))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(right, top, -1.0))))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(left, bottom, -1.0))))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(right, bottom, -1.0))))
    sine = wp.sqrt(wp.max(0.0, 1.0 - cosine * cosine))
    axis = viewport.rotation @ axis
    candidates = GeomList()
    count = int(0)
    for k in range(scene.primitives.shape[0]):
        g = scene.primitives[k]
        if geom_color(scene, viewport.env_id, g)[3] == 0.0:
            continue  # invisible
        if scene.geom_type[g] == wp.static(PLANE):
            outward = scene.geom_xmat[viewport.env_id, g] @ wp.vec3(0.0, 0.0, 1.0)
            if wp.dot(viewport.eye - scene.geom_xpos[viewport.env_id, g], outward) <= 0.0:
                continue  # seen from below
            # Some ray meets the plane if the steepest ray of the cone does; if the cone holds the
            # direction straight down (steep >= cosine), that one does.
            steep = -wp.dot(axis, outward)
            steepest = steep * cosine + wp.sqrt(wp.max(0.0, 1.0 - steep * steep)) * sine
            if steep < cosine and steepest <= 0.0:
                continue
        else:
            center, radius = bounding_sphere(scene, viewport.env_id, g)
            v = center - viewport.eye
            # Outward normal of the cone's tangent plane on the geom's side: if it separates, skip.
            along = wp.dot(v, axis)
            beside = v - along * axis
            side = wp.normalize(beside) * cosine - axis * sine
            if wp.dot(v, side) > wp.min(radius, support(scene, viewport.env_id, g, side)):
                continue
        candidates[count] = g
        count += 1
    return candidates, count


@wp.kernel
def render_tiles(
    scene: RenderScene,
    scratch: Scratch,
    env_ids: wp.array(dtype=int),
    first: int,
    bands: int,
    camera: int,
    width: int,
    height: int,
    pixel_size: float,
    center: wp.vec2,
    rgb: wp.array3d(dtype=wp.uint8),
    depth: wp.array2d(dtype=float),
    geoms: wp.array2d(dtype=int),
):
    """Draw band first + tid of images, counted over `env_ids` and then over the bands of an image.

    Args:
      pixel_size: at distance 1.
      center: optical axis, in pixels from the upper left corner.
      rgb, depth, geoms: (n, H * W, 3), (n, H * W) and (n, H * W); an empty array is not filled.
    """
    work = first + wp.tid()
    env_id = env_ids[work // bands]
    eye = scene.cam_xpos[env_id, camera]
    rotation = scene.cam_xmat[env_id, camera]
    viewport = make_viewport(
        env_id, eye, rotation, pixel_size, center, width, height, work % bands, bands
    )
    bin_meshes(scene, scratch, viewport)
    for tile in range(viewport.tiles):
        x0, y0 = tile_origin(viewport, tile)
        # pixels of the tile that are inside the image
        wide = wp.min(wp.static(TILE), width - x0)
        high = wp.min(wp.static(TILE), height - y0)
        d, depth_scale = tile_rays(viewport, x0, y0)
        inv_depth, nearest = nearest_faces(scratch, tile, x0, y0, 1.0 / scene.far)
        candidates, count = cull_geoms(scene, viewport, x0, y0)
        t, n, geom_ids, face_ids = trace(
            scene, scratch, viewport, candidates, count, d, depth_scale, inv_depth, nearest
        )
        for y in range(high):
            for x in range(wide):
                i = y * wp.static(TILE) + x
                at = (y0 + y) * width + x0 + x
                if geoms.shape[0] > 0:
                    geoms[env_id, at] = geom_ids[i]
                if depth.shape[0] > 0:
                    depth[env_id, at] = wp.where(geom_ids[i] >= 0, t[i] * depth_scale[i], 0.0)
        if rgb.shape[0] > 0:
            color = shade(scene, viewport, d, t, n, geom_ids, face_ids)
            for y in range(high):
                for x in range(wide):
                    at = (y0 + y) * width + x0 + x
                    for channel in range(3):
                        value = color[channel, y * wp.static(TILE) + x]
                        rgb[env_id, at, channel] = wp.uint8(value)


@wp.func
def trace(
    scene: RenderScene,
    scratch: Scratch,
    viewport: Viewport,
    candidates: GeomList,
    count: int,
    d: TileVec3,
    depth_scale: TileFloat,
    inv_depth: TileFloat,
    nearest: TileInt,
):
    """Return where the rays of a tile end: at the rasterized mesh face, unless a primitive is nearer.

    Args:
      candidates, count: primitives to intersect, and how many.
      d, depth_scale: from `tile_rays`.
      inv_depth, nearest: from `nearest_faces`.

    Returns distances, normals (of primitives only), geom ids, -1 for none, and face numbers (of meshes only).
    """
    t = TileFloat()
    n = TileVec3()
    geom_ids = TileInt(-1)
    face_ids = TileInt()
    origin = TileVec3()
    for i in range(wp.static(PIXELS)):
        t[i] = 1.0 / (inv_depth[i] * depth_scale[i])
        origin[:, i] = viewport.eye
    # a gather: in a loop of its own
    for i in range(wp.static(PIXELS)):
        if nearest[i] >= 0:
            geom_ids[i] = scratch.faces[nearest[i]].geom
            face_ids[i] = scratch.faces[nearest[i]].number
    for k in range(count):
        g = candidates[k]
        along, normal = intersect_geom(scene, viewport.env_id, g, origin, d)
        frame = scene.geom_xmat[viewport.env_id, g]
        for i in range(wp.static(PIXELS)):
            nearer = along[i] > 0.0 and along[i] < t[i]
            t[i] = wp.where(nearer, along[i], t[i])
            geom_ids[i] = wp.where(nearer, g, geom_ids[i])
            n[:, i] = wp.where(nearer, frame @ normal[:, i], n[:, i])
    return t, n, geom_ids, face_ids


@wp.func
def shade(
    scene: RenderScene,
    viewport: Viewport,
    d: TileVec3,
    t: TileFloat,
    n: TileVec3,
    geom_ids: TileInt,
    face_ids: TileInt,
):
    """Return the colors of a tile's pixels, (3, 64) in [0, 255]."""
    p = TileVec3()
    # bounding box of the points that are seen
    low = wp.vec3(1.0e8, 1.0e8, 1.0e8)
    up = -low
    for i in range(wp.static(PIXELS)):
        q = viewport.eye + d[:, i] * t[i]
        p[:, i] = q
        low = wp.min(low, wp.where(geom_ids[i] >= 0, q, low))
        up = wp.max(up, wp.where(geom_ids[i] >= 0, q, up))
    any_geom = up[0] >= low[0]
    color, emission, specular, shininess, n = surface_at(
        scene, viewport.env_id, viewport.eye, d, t, geom_ids, face_ids, n
    )
    light = TileVec3()
    highlight = TileVec3()
    if any_geom:
        ahead = viewport.rotation @ wp.vec3(0.0, 0.0, -1.0)
        light, highlight = headlight(scene, ahead, d, n, emission, specular, shininess)
        casters, num_casters = shadow_casters(
            scene, viewport.env_id, 0.5 * (low + up), 0.5 * wp.length(up - low)
        )
        for k in range(scene.light_type.shape[0]):
            if scene.light_active[viewport.env_id, k] != 0:
                light, highlight = add_light(
                    scene,
                    viewport.env_id,
                    k,
                    casters,
                    num_casters,
                    p,
                    d,
                    geom_ids,
                    n,
                    specular,
                    shininess,
                    light,
                    highlight,
                )
    for i in range(wp.static(PIXELS)):
        shaded = wp.cw_mul(color[:, i], light[:, i]) + highlight[:, i]
        shaded = wp.where(geom_ids[i] >= 0, shaded, color[:, i])  # the sky is not lit
        for j in range(3):
            color[j, i] = wp.clamp(shaded[j], 0.0, 1.0) * 255.0
    return color
