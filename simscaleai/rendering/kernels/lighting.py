"""Lighting of the points that a tile's pixels see, as in MuJoCo's renderer.

Blinn-Phong shading: ambient, diffuse and specular parts of the headlight and of each light. Lights have
attenuation, a spot cone, and shadows: from meshes by shadow maps, from all other geoms by rays.
"""

import warp as wp

from simscaleai.rendering.kernels.intersect import intersect_geom
from simscaleai.rendering.kernels.render_scene import (
    DIRECTIONAL,
    PLANE,
    SPOT,
    RenderScene,
    bounding_sphere,
    geom_color,
    support,
)
from simscaleai.rendering.kernels.shadow_maps import shadow_map_visibility
from simscaleai.rendering.kernels.tile_types import (
    PIXELS,
    TileFloat,
    TileInt,
    TileVec3,
    fast_pow,
    normalized,
)
from simscaleai.rendering.loading import MAX_GEOMS

SHADOW = 0.3  # fraction of a light that reaches a point in its shadow, as in MuJoCo's renderer

GeomList = wp.types.vector(length=MAX_GEOMS, dtype=wp.int32)


@wp.func
def headlight(
    scene: RenderScene,
    ahead: wp.vec3,
    d: TileVec3,
    n: TileVec3,
    emission: TileFloat,
    specular: TileFloat,
    shininess: TileFloat,
):
    """Return (light, highlight), each (3, 64): emission and the headlight, which shines from the eye.

    Args:
      ahead: direction of the optical axis.
      d, n: ray directions and surface normals.
    """
    light = TileVec3()
    highlight = TileVec3()
    for i in range(wp.static(PIXELS)):
        facing = wp.max(0.0, -wp.dot(n[:, i], ahead))
        own = wp.vec3(emission[i], emission[i], emission[i])
        light[:, i] = own + scene.headlight_ambient + scene.headlight_diffuse * facing
    if wp.length_sq(scene.headlight_specular) > 0.0:
        for i in range(wp.static(PIXELS)):
            # cosine between the normal and the half vector
            half = wp.max(1.0e-6, -wp.dot(n[:, i], normalized(ahead + d[:, i])))
            strength = specular[i] * fast_pow(half, shininess[i])
            highlight[:, i] = scene.headlight_specular * wp.where(
                wp.dot(n[:, i], ahead) < 0.0, strength, 0.0
            )
    return light, highlight


@wp.func
def add_light(
    scene: RenderScene,
    env_id: int,
    k: int,
    casters: GeomList,
    num_casters: int,
    p: TileVec3,
    d: TileVec3,
    geom_ids: TileInt,
    n: TileVec3,
    specular: TileFloat,
    shininess: TileFloat,
    light: TileVec3,
    highlight: TileVec3,
):
    """Add light k to `light` and `highlight` (3, 64) of the points p; return both.

    Args:
      casters, num_casters: geoms that may cast shadows on the points, and how many.
      p, d, n: points, directions of the rays that see them, and normals, world frame.
      geom_ids: the geom of each point.
    """
    toward = TileVec3()  # unit vectors to the light
    distance = TileFloat()
    strength = TileFloat()
    axis = scene.light_xdir[env_id, k]
    light_pos = scene.light_xpos[env_id, k]
    attenuation = scene.light_attenuation[k]
    cutoff = scene.light_cutoff[k]
    exponent = scene.light_exponent[k]
    kind = scene.light_type[k]
    if kind == wp.static(DIRECTIONAL):
        for i in range(wp.static(PIXELS)):
            toward[:, i] = -axis
            distance[i] = 1.0e8
            strength[i] = 1.0
    else:
        if kind != wp.static(SPOT):  # a point light is a spot light without a cone
            cutoff = float(-2.0)
            exponent = float(0.0)
        for i in range(wp.static(PIXELS)):
            line = light_pos - p[:, i]
            far = wp.max(wp.length(line), 1.0e-6)
            line = line / far
            # falloff = cos(angle to the axis) ** exponent / (a0 + a1 r + a2 r^2)
            cosine = -wp.dot(line, axis)
            falloff = fast_pow(wp.max(cosine, 1.0e-6), exponent)
            falloff = falloff / (attenuation[0] + far * (attenuation[1] + far * attenuation[2]))
            toward[:, i] = line
            distance[i] = far
            strength[i] = wp.where(cosine < cutoff, 0.0, falloff)
    # No light from behind the surface.
    for i in range(wp.static(PIXELS)):
        strength[i] = wp.where(wp.dot(n[:, i], toward[:, i]) > 0.0, strength[i], 0.0)
    map_id = scene.light_map[k]
    if map_id >= 0:
        visibility = TileFloat(1.0)
        if scene.map_size > 0:
            visibility = shadow_map_visibility(scene, env_id, map_id, p, n)
        if num_casters > 0:
            visibility = wp.cw_mul(
                visibility,
                ray_visibility(
                    scene, env_id, casters, num_casters, p, n, geom_ids, toward, distance
                ),
            )
        for i in range(wp.static(PIXELS)):
            strength[i] = strength[i] * (
                wp.static(SHADOW) + wp.static(1.0 - SHADOW) * visibility[i]
            )
    ambient = scene.light_ambient[env_id, k]
    diffuse = scene.light_diffuse[env_id, k]
    for i in range(wp.static(PIXELS)):
        facing = wp.dot(n[:, i], toward[:, i])
        light[:, i] = light[:, i] + ambient + diffuse * (facing * strength[i])
    color = scene.light_specular[env_id, k]
    if wp.length_sq(color) > 0.0:
        for i in range(wp.static(PIXELS)):
            half = wp.max(1.0e-6, wp.dot(n[:, i], normalized(toward[:, i] - d[:, i])))
            highlight[:, i] = highlight[:, i] + color * (
                strength[i] * specular[i] * fast_pow(half, shininess[i])
            )
    return light, highlight


@wp.func
def ray_visibility(
    scene: RenderScene,
    env_id: int,
    casters: GeomList,
    num_casters: int,
    p: TileVec3,
    n: TileVec3,
    geom_ids: TileInt,
    toward: TileVec3,
    distance: TileFloat,
):
    """Return 0 for the points that a geom among `casters` hides from the light, else 1: (64,)."""
    visibility = TileFloat(1.0)
    start = TileVec3()
    for i in range(wp.static(PIXELS)):
        start[:, i] = p[:, i] + n[:, i] * 1.0e-4  # off the surface, against self-shadowing
    for k in range(num_casters):
        g = casters[k]
        t, _n = intersect_geom(scene, env_id, g, start, toward)
        for i in range(wp.static(PIXELS)):
            # A primitive is convex: its lit side is not in its own shadow.
            blocked = t[i] > 0.0 and t[i] < distance[i] - 1.0e-3 and geom_ids[i] != g
            visibility[i] = wp.where(blocked, 0.0, visibility[i])
    return visibility


@wp.func
def shadow_casters(scene: RenderScene, env_id: int, center: wp.vec3, radius: float):
    """Return the primitives that may cast a shadow into a sphere, and how many."""
    casters = GeomList()
    count = int(0)
    for j in range(scene.primitives.shape[0]):
        g = scene.primitives[j]
        if geom_color(scene, env_id, g)[3] == 0.0:
            continue  # invisible
        blocks = int(0)
        for k in range(scene.light_type.shape[0]):
            if scene.light_map[k] >= 0 and scene.light_active[env_id, k] != 0:
                line = center - scene.light_xpos[env_id, k]
                if scene.light_type[k] == wp.static(DIRECTIONAL):
                    line = scene.light_xdir[env_id, k] * 1.0e3
                blocks += may_block(scene, env_id, g, center, line, radius)
        if blocks > 0:
            casters[count] = g
            count += 1
    return casters, count


@wp.func
def may_block(
    scene: RenderScene, env_id: int, g: int, center: wp.vec3, line: wp.vec3, radius: float
):
    """Return 1 if primitive g may hide the light at center - line from a sphere around `center`, else 0."""
    light_pos = center - line
    if scene.geom_type[g] == wp.static(PLANE):
        # A plane hides only lights that are below it.
        outward = scene.geom_xmat[env_id, g] @ wp.vec3(0.0, 0.0, 1.0)
        return wp.where(wp.dot(light_pos - scene.geom_xpos[env_id, g], outward) > 0.0, 0, 1)
    middle, geom_radius = bounding_sphere(scene, env_id, g)
    # Distance between the geom's center and the segment from the light to the sphere.
    s = wp.clamp(wp.dot(middle - light_pos, line) / wp.dot(line, line), 0.0, 1.0)
    apart = middle - light_pos - s * line
    distance = wp.length(apart)
    # First by the bounding sphere, then by the tighter support.
    if distance > geom_radius + radius:
        return 0
    if distance > radius + support(scene, env_id, g, apart / wp.max(distance, 1.0e-6)):
        return 0
    return 1
