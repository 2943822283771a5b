"""Binned rasterization of meshes: find the nearest face for each pixel.

First, faces are culled, projected and put into the bins of the tiles that they may cover. Then each tile is
drawn from its bin with a depth buffer. Both loops process 64 faces or 64 pixels at a time (see
`kernels.tile_types`).

Edge functions (M. Olano, T. Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997). Let
a, b, c be the corners of a face relative to the eye, and d the ray direction of a pixel. Then

    d = (w_a a + w_b b + w_c c) / (a . (b x c))
    w_a = d . (b x c),  w_b = d . (c x a),  w_c = d . (a x b)

The ray meets the face if the three edge functions w_a, w_b, w_c, divided by the volume a . (b x c), are
positive. Their sum over the volume is 1 / depth. Nothing here divides by the depth of a corner, so faces that
reach behind the eye need no clipping. In an image, d is affine in the pixel coordinates (x, y), and so are
these functions: each is stored as (slope along x, slope along y, value at (0, 0)).

The same code serves cameras and lights: the depth image of a light is its shadow map.

Trap: a launch keeps its bins in `Scratch`, and so must run on one CPU thread.
"""

import warp as wp

from simscaleai.rendering.kernels.render_scene import (
    RenderScene,
    bounding_sphere,
    geom_color,
    support,
)
from simscaleai.rendering.kernels.tile_types import PIXELS, TileFloat, TileInt, TileVec3
from simscaleai.rendering.loading import TILE

NEAR = 1.0e-4  # m; a corner nearer than this is not projected
# Pixels by which a face is drawn beyond its edges, so that rounding leaves no gap between neighbors.
SEAM = 1.0e-4
LINES = 2  # pixel rows of a tile that are drawn by one vectorized loop


@wp.struct
class Viewport:
    """Band of tile rows of one image, and the camera of the image."""

    env_id: int
    eye: wp.vec3
    rotation: wp.mat33  # camera axes as columns: right, up, back
    pixel_size: float  # at distance 1
    center: wp.vec2  # optical axis, in pixels from the upper left corner
    width: int  # of the image
    height: int
    top: int  # first pixel row of the band
    bottom: int  # one behind its last
    across: int  # tiles in a row
    tiles: int  # tiles in the band


@wp.struct
class Face:
    """Projected face: affine functions of pixel coordinates, and the number of the face."""

    a: wp.vec3  # edge functions: none is negative inside
    b: wp.vec3
    c: wp.vec3
    inv_depth: wp.vec3  # 1 / depth
    north: int  # first and last pixel row of its bounding box
    south: int
    geom: int
    number: int  # in its mesh


@wp.struct
class Scratch:
    """Projected faces of a band and its bins: linked lists that start at `head`, one per tile.

    The last bin belongs to all tiles. It takes the faces for which there are not enough links left.
    """

    faces: wp.array(dtype=Face)
    head: wp.array(dtype=int)  # (tiles + 1,) first link of each bin, -1 for none
    link_face: wp.array(dtype=int)  # face of each link
    link_next: wp.array(dtype=int)  # next link, -1 for the last


@wp.func
def make_viewport(
    env_id: int,
    eye: wp.vec3,
    rotation: wp.mat33,
    pixel_size: float,
    center: wp.vec2,
    width: int,
    height: int,
    band: int,
    bands: int,
):
    """Return band number `band` of an image that is cut into `bands`; cuts never run through a tile."""
    viewport = Viewport()
    viewport.env_id = env_id
    viewport.eye = eye
    viewport.rotation = rotation
    viewport.pixel_size = pixel_size
    viewport.center = center
    viewport.width = width
    viewport.height = height
    viewport.across = (width + wp.static(TILE - 1)) // wp.static(TILE)
    down = (height + wp.static(TILE - 1)) // wp.static(TILE)
    begin = down * band // bands
    end = down * (band + 1) // bands
    viewport.top = begin * wp.static(TILE)
    viewport.bottom = wp.min(end * wp.static(TILE), height)
    viewport.tiles = (end - begin) * viewport.across
    return viewport


@wp.func
def tile_origin(viewport: Viewport, tile: int):
    """Return column and row of the first pixel of a tile."""
    y = viewport.top + tile // viewport.across * wp.static(TILE)
    return tile % viewport.across * wp.static(TILE), y


@wp.func
def bin_meshes(scene: RenderScene, scratch: Scratch, viewport: Viewport):
    """Cull the faces of all meshes and put the rest into the bins of a band's tiles."""
    for i in range(viewport.tiles):
        scratch.head[i] = -1
    scratch.head[scratch.head.shape[0] - 1] = -1
    facing = TileFloat()
    picked = TileInt()
    used = int(0)
    links = int(0)
    # Outward normals of the planes of the viewing frustum.
    left = viewport.center[0] * viewport.pixel_size
    right = (float(viewport.width) - viewport.center[0]) * viewport.pixel_size
    upper = (viewport.center[1] - float(viewport.top)) * viewport.pixel_size
    lower = (viewport.center[1] - float(viewport.bottom)) * viewport.pixel_size
    east = viewport.rotation @ wp.normalize(wp.vec3(1.0, 0.0, right))
    west = viewport.rotation @ wp.normalize(wp.vec3(-1.0, 0.0, left))
    north = viewport.rotation @ wp.normalize(wp.vec3(0.0, 1.0, upper))
    south = viewport.rotation @ wp.normalize(wp.vec3(0.0, -1.0, -lower))
    back = viewport.rotation @ wp.vec3(0.0, 0.0, 1.0)
    for k in range(scene.mesh_geoms.shape[0]):
        g = scene.mesh_geoms[k]
        if geom_color(scene, viewport.env_id, g)[3] == 0.0:
            continue  # invisible
        # Frustum culling of the whole geom.
        center, _radius = bounding_sphere(scene, viewport.env_id, g)
        v = center - viewport.eye
        if (
            wp.dot(v, back) > support(scene, viewport.env_id, g, back)
            or wp.dot(v, east) > support(scene, viewport.env_id, g, east)
            or wp.dot(v, west) > support(scene, viewport.env_id, g, west)
            or wp.dot(v, north) > support(scene, viewport.env_id, g, north)
            or wp.dot(v, south) > support(scene, viewport.env_id, g, south)
        ):
            continue
        # Transform the camera to the mesh's frame: cheaper than all vertices to the camera's.
        to_local = wp.transpose(scene.geom_xmat[viewport.env_id, g])
        axes = to_local @ viewport.rotation
        eye = to_local @ (viewport.eye - scene.geom_xpos[viewport.env_id, g])
        count = int(0)
        first = scene.geom_face[g]
        last = first + scene.geom_faces[g] - 1
        # Back-face culling in blocks of 64: a face is visible only if the eye is on the outer side of its
        # plane.
        for block in range(first // wp.static(PIXELS), last // wp.static(PIXELS) + 1):
            planes = scene.face_planes[block]
            start = block * wp.static(PIXELS)
            for i in range(wp.static(PIXELS)):
                normal = wp.vec3(planes[0, i], planes[1, i], planes[2, i])
                facing[i] = wp.dot(normal, eye) - planes[3, i]
            for face in range(
                wp.max(first, start), wp.min(last, start + wp.static(PIXELS - 1)) + 1
            ):
                # Always written, and kept only if `count` advances: there is no branch to mispredict.
                picked[count] = face - first
                count += wp.where(facing[face - start] > 0.0, 1, 0)
                if count == wp.static(PIXELS) or (count > 0 and face == last):
                    used, links = bin_faces(
                        scene, scratch, viewport, g, eye, axes, picked, count, used, links
                    )
                    count = int(0)


@wp.func
def bin_faces(
    scene: RenderScene,
    scratch: Scratch,
    viewport: Viewport,
    g: int,
    eye: wp.vec3,
    axes: wp.mat33,
    picked: TileInt,
    count: int,
    used: int,
    links: int,
):
    """Project up to 64 faces of geom g and put them into bins; return `used` and `links` afterwards.

    Args:
      eye, axes: camera position and axes in the mesh's frame.
      picked, count: numbers of the faces in the mesh, and how many there are.
      used, links: how many faces and links of `scratch` are in use.
    """
    # Gather the corners, relative to the eye: (3, 64) each.
    a = TileVec3()
    b = TileVec3()
    c = TileVec3()
    vert = scene.geom_vert[g]
    for i in range(count):
        corners = scene.mesh_faces[scene.geom_face[g] + picked[i]]
        a[:, i] = scene.mesh_verts[vert + corners[0]] - eye
        b[:, i] = scene.mesh_verts[vert + corners[1]] - eye
        c[:, i] = scene.mesh_verts[vert + corners[2]] - eye
    top = float(viewport.top)
    bottom = float(viewport.bottom)
    width = float(viewport.width)
    edge_a = TileVec3()
    edge_b = TileVec3()
    edge_c = TileVec3()
    inv_depth = TileVec3()
    west = TileInt()
    east = TileInt()
    north = TileInt()
    south = TileInt()
    for i in range(wp.static(PIXELS)):
        p = a[:, i]
        q = b[:, i]
        r = c[:, i]
        # Cross products of an edge and a corner: two corners of a small face are nearly parallel, and their
        # cross product loses digits.
        n = wp.cross(q - p, r - p)
        volume = wp.dot(p, n)
        edge_a[:, i] = widen(affine_in_pixels(viewport, axes, wp.cross(r - q, q)))
        edge_b[:, i] = widen(affine_in_pixels(viewport, axes, wp.cross(p - r, r)))
        edge_c[:, i] = widen(affine_in_pixels(viewport, axes, wp.cross(q - p, p)))
        inv_depth[:, i] = affine_in_pixels(viewport, axes, n / wp.min(volume, -1.0e-20))
        # Leave out faces seen edge-on, whose depth would be rounding error alone.
        visible = volume * volume > 1.0e-12 * wp.dot(n, n) * wp.dot(p, p) and volume < 0.0
        # Bounding box in pixels; the whole band for a face that reaches behind the eye.
        p = project(viewport, axes, p)
        q = project(viewport, axes, q)
        r = project(viewport, axes, r)
        low = wp.min(wp.min(p, q), r)
        up = wp.max(wp.max(p, q), r)
        in_front = up[2] < -wp.static(NEAR)
        x0 = wp.where(in_front, low[0] - wp.static(SEAM), 0.0)
        x1 = wp.where(in_front, up[0] + wp.static(SEAM), width)
        y0 = wp.where(in_front, low[1] - wp.static(SEAM), 0.0)
        y1 = wp.where(in_front, up[1] + wp.static(SEAM), bottom)
        west[i] = int(wp.ceil(wp.clamp(x0, 0.0, width)))
        east[i] = int(wp.floor(wp.clamp(x1, -1.0, width - 1.0)))
        north[i] = int(wp.ceil(wp.clamp(y0, top, bottom)))
        south[i] = int(wp.floor(wp.clamp(y1, -1.0, bottom - 1.0)))
        # An empty box for faces that are entirely behind the eye.
        east[i] = wp.where(low[2] < 0.0 and visible, east[i], -1)
    for i in range(count):
        if west[i] > east[i] or north[i] > south[i]:
            continue
        face = Face()
        face.a = edge_a[:, i]
        face.b = edge_b[:, i]
        face.c = edge_c[:, i]
        face.inv_depth = inv_depth[:, i]
        face.north = north[i]
        face.south = south[i]
        face.geom = g
        face.number = picked[i]
        scratch.faces[used] = face
        links = bin_face(scratch, viewport, face, used, west[i], east[i], links)
        used += 1
    return used, links


@wp.func
def bin_face(
    scratch: Scratch,
    viewport: Viewport,
    face: Face,
    number: int,
    west: int,
    east: int,
    links: int,
):
    """Link face `number` of `scratch` into the bins of the tiles that it may cover; return the links in use.

    `west` and `east` are the first and last pixel column of its bounding box.
    """
    left = west // wp.static(TILE)
    right = east // wp.static(TILE) + 1
    upper = face.north // wp.static(TILE)
    lower = face.south // wp.static(TILE) + 1
    # One link is reserved for each face that may follow, so that the last bin can always take it.
    spare = scratch.link_face.shape[0] - links - (scratch.faces.shape[0] - number)
    if (right - left) * (lower - upper) > spare:
        add_link(scratch, number, scratch.head.shape[0] - 1, links)
        links += 1
    else:
        for y in range(upper, lower):
            for x in range(left, right):
                # A tile is skipped if one of the edge functions is negative all over it.
                corner = wp.vec3(float(x * wp.static(TILE)), float(y * wp.static(TILE)), 1.0)
                inside = wp.min(tile_maximum(face.a, corner), tile_maximum(face.b, corner))
                inside = wp.min(inside, tile_maximum(face.c, corner))
                if wp.min(inside, tile_maximum(face.inv_depth, corner)) >= 0.0:
                    tile = (y - viewport.top // wp.static(TILE)) * viewport.across + x
                    add_link(scratch, number, tile, links)
                    links += 1
    return links


@wp.func
def tile_maximum(function: wp.vec3, corner: wp.vec3):
    """Return the maximum of an affine function over the tile whose first pixel is `corner` = (x, y, 1)."""
    slopes = wp.max(function[0], 0.0) + wp.max(function[1], 0.0)
    return wp.dot(function, corner) + wp.static(float(TILE - 1)) * slopes


@wp.func
def add_link(scratch: Scratch, face: int, tile: int, link: int):
    """Put a face at the front of a tile's list, with the unused link `link`."""
    scratch.link_face[link] = face
    scratch.link_next[link] = scratch.head[tile]
    scratch.head[tile] = link


@wp.func
def affine_in_pixels(viewport: Viewport, axes: wp.mat33, w: wp.vec3):
    """Return w . d, a linear function of ray directions d, as an affine function of pixel coordinates.

    `axes` are the camera's, in the frame of w. The direction of pixel (x, y) is
    ((x - center_x) s, (center_y - y) s, -1) with the pixel size s.
    """
    v = wp.transpose(axes) @ w
    along = v[0] * viewport.pixel_size
    down = -v[1] * viewport.pixel_size
    center = center_of_axis(viewport)
    return wp.vec3(along, down, -v[2] - along * center[0] - down * center[1])


@wp.func
def center_of_axis(viewport: Viewport):
    """Return the optical axis in pixel indices, which count from the center of the first pixel."""
    return viewport.center - wp.vec2(0.5, 0.5)


@wp.func
def project(viewport: Viewport, axes: wp.mat33, corner: wp.vec3):
    """Return (x, y) in pixel indices and z, m behind the eye, of a corner relative to the eye.

    (x, y) is valid where z < -NEAR. `axes` are the camera's, in the frame of the corner.
    """
    v = wp.transpose(axes) @ corner
    scale = -1.0 / (viewport.pixel_size * wp.min(v[2], -wp.static(NEAR)))
    center = center_of_axis(viewport)
    return wp.vec3(center[0] + v[0] * scale, center[1] - v[1] * scale, v[2])


@wp.func
def widen(edge: wp.vec3):
    """Return an edge function whose zero line is SEAM pixels further out."""
    return edge + wp.vec3(0.0, 0.0, wp.static(SEAM) * (wp.abs(edge[0]) + wp.abs(edge[1])))


@wp.func
def rasterize_bin(
    scratch: Scratch, bin: int, x0: int, y0: int, inv_depth: TileFloat, face_ids: TileInt
):
    """Draw the faces of a bin into the tile whose first pixel is (x0, y0).

    Args:
      inv_depth: depth buffer, 1 / depth of the nearest face so far.
      face_ids: index of that face in `scratch.faces`.

    Returns:
      `inv_depth` and `face_ids`, updated.
    """
    link = scratch.head[bin]
    while link >= 0:
        number = scratch.link_face[link]
        link = scratch.link_next[link]
        face = scratch.faces[number]
        # Move the origin of the functions to the tile's first pixel.
        corner = wp.vec3(float(x0), float(y0), 1.0)
        a = face.a
        b = face.b
        c = face.c
        n = face.inv_depth
        a[2] = wp.dot(a, corner)
        b[2] = wp.dot(b, corner)
        c[2] = wp.dot(c, corner)
        n[2] = wp.dot(n, corner)
        # Only the pixel rows that its bounding box covers.
        begin = wp.max(face.north - y0, 0) // wp.static(LINES)
        end = wp.min(face.south - y0, wp.static(TILE - 1)) // wp.static(LINES) + 1
        for k in range(begin, end):
            for j in range(wp.static(LINES * TILE)):
                i = k * wp.static(LINES * TILE) + j
                p = wp.vec3(float(j % wp.static(TILE)), float(i // wp.static(TILE)), 1.0)
                inside = wp.min(wp.min(wp.dot(a, p), wp.dot(b, p)), wp.dot(c, p))
                # Unconditional stores: a masked store would delay the load for the next face.
                value = wp.where(inside >= 0.0, wp.dot(n, p), 0.0)
                before = inv_depth[i]
                others = face_ids[i]
                inv_depth[i] = wp.where(value > before, value, before)
                face_ids[i] = wp.where(value > before, number, others)
    return inv_depth, face_ids


@wp.func
def nearest_faces(scratch: Scratch, tile: int, x0: int, y0: int, background: float):
    """Return for each pixel of a tile 1 / depth of the nearest face and the index of the face.

    Pixels without a face have `background` and -1.
    """
    inv_depth = TileFloat(background)
    face_ids = TileInt(-1)
    inv_depth, face_ids = rasterize_bin(scratch, tile, x0, y0, inv_depth, face_ids)
    # the bin of all tiles
    last = scratch.head.shape[0] - 1
    inv_depth, face_ids = rasterize_bin(scratch, last, x0, y0, inv_depth, face_ids)
    return inv_depth, face_ids
