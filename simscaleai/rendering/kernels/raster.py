"""Which face of which mesh each pixel sees, without rays: faces are drawn, and the nearest one stays.

Faces are first put into the bins of the tiles that they may be seen in, and then drawn tile by tile; both for
many faces, or many pixels, at a time (see `kernels.lanes`).

A pixel sees a face by the sign of three linear functions of its direction d: d is a sum of the corners
a, b, c (seen from the eye) with weights d . (b x c), d . (c x a), d . (a x b) over the volume
a . (b x c), all positive inside. The sum of these weights is the inverse of the depth, so what lies behind
the eye needs no clipping (M. Olano, T. Greer, "Triangle scan conversion using 2D homogeneous coordinates",
1997).

The same serves a camera and a light, whose picture says how far its light goes: a shadow map.

Trap: a launch keeps its bins in `Scratch`, and so must run on one CPU thread.
"""

import warp as wp

from simscaleai.rendering.kernels.lanes import PIXELS, Lanes, Names, Points
from simscaleai.rendering.kernels.scene import Scene, bound, colour_of, extent
from simscaleai.rendering.loading import TILE

NEAR = 1.0e-4  # m; what is nearer than this has no place in the picture that could be computed
# Pixels that a face reaches beyond its edges, so that rounding leaves no gap between it and its neighbours.
SEAM = 1.0e-4
LINES = 2  # of a tile that are drawn at once


@wp.struct
class Strip:
    """Lines of tiles of a picture, and the eye that sees it."""

    row: int
    eye: wp.vec3
    turn: wp.mat33  # its axes, as columns: to the right, up and back
    pixel: float  # size at distance 1
    middle: wp.vec2  # where the axis is, counted in pixels from the corner
    width: int
    height: int
    top: int  # its first line of pixels, and the one behind the last
    bottom: int
    across: int  # tiles in a line, and in all
    tiles: int


@wp.struct
class Face:
    """A face that may be seen: where, in pixels, and which it is.

    Functions of pixels are their slopes along x and y and their values at 0.
    """

    a: wp.vec3  # the weights of its corners: in it, where none of them is negative
    b: wp.vec3
    c: wp.vec3
    near: wp.vec3  # 1 / depth
    north: int  # its first and last line
    south: int
    geom: int
    number: int  # in its mesh


@wp.struct
class Scratch:
    """The faces that may be seen in a picture, and the bins of tiles they are in: lists, linked from `head`.

    What is in the last bin may be seen in all tiles. It takes the faces for which there are no links left.
    """

    faces: wp.array(dtype=Face)
    head: wp.array(dtype=int)
    link_face: wp.array(dtype=int)
    link_next: wp.array(dtype=int)


@wp.func
def strip_of(
    row: int,
    eye: wp.vec3,
    turn: wp.mat33,
    pixel: float,
    middle: wp.vec2,
    width: int,
    height: int,
    number: int,
    strips: int,
):
    """Strip `number` of a picture that is cut into so many."""
    strip = Strip()
    strip.row = row
    strip.eye = eye
    strip.turn = turn
    strip.pixel = pixel
    strip.middle = middle
    strip.width = width
    strip.height = height
    strip.across = (width + wp.static(TILE - 1)) // wp.static(TILE)
    down = (height + wp.static(TILE - 1)) // wp.static(TILE)
    begin = down * number // strips
    end = down * (number + 1) // strips
    strip.top = begin * wp.static(TILE)
    strip.bottom = wp.min(end * wp.static(TILE), height)
    strip.tiles = (end - begin) * strip.across
    return strip


@wp.func
def first_pixel(strip: Strip, tile: int):
    """Column and line."""
    line = strip.top + tile // strip.across * wp.static(TILE)
    return tile % strip.across * wp.static(TILE), line


@wp.func
def bin_meshes(scene: Scene, scratch: Scratch, strip: Strip):
    """Put the faces of all meshes into the bins of a strip's tiles."""
    for i in range(strip.tiles):
        scratch.head[i] = -1
    scratch.head[scratch.head.shape[0] - 1] = -1
    outside = Lanes()
    picked = Names()
    used = int(0)
    links = int(0)
    # the planes through its edges, which look outwards
    left = strip.middle[0] * strip.pixel
    right = (float(strip.width) - strip.middle[0]) * strip.pixel
    upper = (strip.middle[1] - float(strip.top)) * strip.pixel
    lower = (strip.middle[1] - float(strip.bottom)) * strip.pixel
    east = strip.turn @ wp.normalize(wp.vec3(1.0, 0.0, right))
    west = strip.turn @ wp.normalize(wp.vec3(-1.0, 0.0, left))
    north = strip.turn @ wp.normalize(wp.vec3(0.0, 1.0, upper))
    south = strip.turn @ wp.normalize(wp.vec3(0.0, -1.0, -lower))
    back = strip.turn @ wp.vec3(0.0, 0.0, 1.0)
    for k in range(scene.meshes.shape[0]):
        g = scene.meshes[k]
        if colour_of(scene, strip.row, g)[3] == 0.0:
            continue
        centre, _radius = bound(scene, strip.row, g)
        v = centre - strip.eye
        if (
            wp.dot(v, back) > extent(scene, strip.row, g, back)
            or wp.dot(v, east) > extent(scene, strip.row, g, east)
            or wp.dot(v, west) > extent(scene, strip.row, g, west)
            or wp.dot(v, north) > extent(scene, strip.row, g, north)
            or wp.dot(v, south) > extent(scene, strip.row, g, south)
        ):
            continue
        # in the mesh's frame
        inward = wp.transpose(scene.geom_xmat[strip.row, g])
        axes = inward @ strip.turn
        eye = inward @ (strip.eye - scene.geom_xpos[strip.row, g])
        count = int(0)
        first = scene.geom_face[g]
        last = first + scene.geom_faces[g] - 1
        for block in range(first // wp.static(PIXELS), last // wp.static(PIXELS) + 1):
            planes = scene.face_planes[block]
            start = block * wp.static(PIXELS)
            for i in range(wp.static(PIXELS)):
                normal = wp.vec3(planes[0, i], planes[1, i], planes[2, i])
                outside[i] = wp.dot(normal, eye) - planes[3, i]
            for face in range(
                wp.max(first, start), wp.min(last, start + wp.static(PIXELS - 1)) + 1
            ):
                picked[count] = face - first
                count += wp.where(outside[face - start] > 0.0, 1, 0)
                if count == wp.static(PIXELS) or (count > 0 and face == last):
                    used, links = bin_faces(
                        scene, scratch, strip, g, eye, axes, picked, count, used, links
                    )
                    count = int(0)


@wp.func
def bin_faces(
    scene: Scene,
    scratch: Scratch,
    strip: Strip,
    g: int,
    eye: wp.vec3,
    axes: wp.mat33,
    picked: Names,
    count: int,
    used: int,
    links: int,
):
    """Put the faces of geom g that were picked, `count` of them, into bins.

    Args:
      eye, axes: those of the strip, in the mesh's frame.
      used, links: how many faces and links are in use.

    Returns those two anew.
    """
    a = Points()
    b = Points()
    c = Points()
    vert = scene.geom_vert[g]
    for i in range(count):
        corners = scene.mesh_faces[scene.geom_face[g] + picked[i]]
        a[:, i] = scene.mesh_verts[vert + corners[0]] - eye
        b[:, i] = scene.mesh_verts[vert + corners[1]] - eye
        c[:, i] = scene.mesh_verts[vert + corners[2]] - eye
    top = float(strip.top)
    bottom = float(strip.bottom)
    wide = float(strip.width)
    wa = Points()
    wb = Points()
    wc = Points()
    near = Points()
    west = Names()
    east = Names()
    north = Names()
    south = Names()
    for i in range(wp.static(PIXELS)):
        p = a[:, i]
        q = b[:, i]
        r = c[:, i]
        # products of an edge and a corner are exacter than those of two corners, which are nearly parallel
        n = wp.cross(q - p, r - p)
        volume = wp.dot(p, n)
        wa[:, i] = widened(in_pixels(strip, axes, wp.cross(r - q, q)))
        wb[:, i] = widened(in_pixels(strip, axes, wp.cross(p - r, r)))
        wc[:, i] = widened(in_pixels(strip, axes, wp.cross(q - p, p)))
        near[:, i] = in_pixels(strip, axes, n / wp.min(volume, -1.0e-20))
        # seen from its edge it is nothing but rounding
        aslant = volume * volume > 1.0e-12 * wp.dot(n, n) * wp.dot(p, p) and volume < 0.0
        # the box around it, the whole picture for what reaches behind the eye
        p = place_of(strip, axes, p)
        q = place_of(strip, axes, q)
        r = place_of(strip, axes, r)
        low = wp.min(wp.min(p, q), r)
        up = wp.max(wp.max(p, q), r)
        before = up[2] < -wp.static(NEAR)
        x0 = wp.where(before, low[0] - wp.static(SEAM), 0.0)
        x1 = wp.where(before, up[0] + wp.static(SEAM), wide)
        y0 = wp.where(before, low[1] - wp.static(SEAM), 0.0)
        y1 = wp.where(before, up[1] + wp.static(SEAM), bottom)
        west[i] = int(wp.ceil(wp.clamp(x0, 0.0, wide)))
        east[i] = int(wp.floor(wp.clamp(x1, -1.0, wide - 1.0)))
        north[i] = int(wp.ceil(wp.clamp(y0, top, bottom)))
        south[i] = int(wp.floor(wp.clamp(y1, -1.0, bottom - 1.0)))
        # what is behind the eye is not seen
        east[i] = wp.where(low[2] < 0.0 and aslant, east[i], -1)
    for i in range(count):
        if west[i] > east[i] or north[i] > south[i]:
            continue
        face = Face()
        face.a = wa[:, i]
        face.b = wb[:, i]
        face.c = wc[:, i]
        face.near = near[:, i]
        face.north = north[i]
        face.south = south[i]
        face.geom = g
        face.number = picked[i]
        scratch.faces[used] = face
        left = west[i] // wp.static(TILE)
        right = east[i] // wp.static(TILE) + 1
        upper = north[i] // wp.static(TILE)
        lower = south[i] // wp.static(TILE) + 1
        # each face to come can have a link
        spare = scratch.link_face.shape[0] - links - (scratch.faces.shape[0] - used)
        if (right - left) * (lower - upper) > spare:
            put(scratch, used, scratch.head.shape[0] - 1, links)
            links += 1
        else:
            for y in range(upper, lower):
                for x in range(left, right):
                    corner = wp.vec3(float(x * wp.static(TILE)), float(y * wp.static(TILE)), 1.0)
                    inside = wp.min(most(face.a, corner), most(face.b, corner))
                    inside = wp.min(inside, most(face.c, corner))
                    if wp.min(inside, most(face.near, corner)) >= 0.0:
                        put(
                            scratch,
                            used,
                            (y - strip.top // wp.static(TILE)) * strip.across + x,
                            links,
                        )
                        links += 1
        used += 1
    return used, links


@wp.func
def most(function: wp.vec3, corner: wp.vec3):
    """The most that a function of pixels is in the tile whose first pixel is that corner."""
    slopes = wp.max(function[0], 0.0) + wp.max(function[1], 0.0)
    return wp.dot(function, corner) + wp.static(float(TILE - 1)) * slopes


@wp.func
def put(scratch: Scratch, face: int, tile: int, link: int):
    """Use that link to put a face into the bin of a tile."""
    scratch.link_face[link] = face
    scratch.link_next[link] = scratch.head[tile]
    scratch.head[tile] = link


@wp.func
def in_pixels(strip: Strip, axes: wp.mat33, w: wp.vec3):
    """The function w . d of directions d, as one of pixels: its slopes along x and y, and its value at 0.

    `axes` are the eye's, in the frame of w.
    """
    v = wp.transpose(axes) @ w
    along = v[0] * strip.pixel
    down = -v[1] * strip.pixel
    middle = centre_of(strip)
    return wp.vec3(along, down, -v[2] - along * middle[0] - down * middle[1])


@wp.func
def centre_of(strip: Strip):
    """Where the axis is, counted in pixels' middles."""
    return strip.middle - wp.vec2(0.5, 0.5)


@wp.func
def place_of(strip: Strip, axes: wp.mat33, corner: wp.vec3):
    """Column and line, and how far behind the eye it is (m), of a corner; it has no place unless it is ahead.

    `axes` are the eye's, in the frame of the corner.
    """
    v = wp.transpose(axes) @ corner
    scale = -1.0 / (strip.pixel * wp.min(v[2], -wp.static(NEAR)))
    middle = centre_of(strip)
    return wp.vec3(middle[0] + v[0] * scale, middle[1] - v[1] * scale, v[2])


@wp.func
def widened(weight: wp.vec3):
    """A function of pixels that is negative a seam later."""
    return weight + wp.vec3(0.0, 0.0, wp.static(SEAM) * (wp.abs(weight[0]) + wp.abs(weight[1])))


@wp.func
def draw_bin(scratch: Scratch, tile: int, x0: int, y0: int, near: Lanes, seen: Names):
    """Draw what is in a bin into a tile whose first pixel is (x0, y0).

    `near` is 1 / depth of what was seen so far, and `seen` which faces that is.
    """
    link = scratch.head[tile]
    while link >= 0:
        number = scratch.link_face[link]
        link = scratch.link_next[link]
        face = scratch.faces[number]
        corner = wp.vec3(float(x0), float(y0), 1.0)
        a = face.a
        b = face.b
        c = face.c
        n = face.near
        a[2] = wp.dot(a, corner)
        b[2] = wp.dot(b, corner)
        c[2] = wp.dot(c, corner)
        n[2] = wp.dot(n, corner)
        begin = wp.max(face.north - y0, 0) // wp.static(LINES)
        end = wp.min(face.south - y0, wp.static(TILE - 1)) // wp.static(LINES) + 1
        for k in range(begin, end):
            for j in range(wp.static(LINES * TILE)):
                i = k * wp.static(LINES * TILE) + j
                p = wp.vec3(float(j % wp.static(TILE)), float(i // wp.static(TILE)), 1.0)
                inside = wp.min(wp.min(wp.dot(a, p), wp.dot(b, p)), wp.dot(c, p))
                # without `and`: a masked store would hold up the next face's load
                value = wp.where(inside >= 0.0, wp.dot(n, p), 0.0)
                before = near[i]
                others = seen[i]
                near[i] = wp.where(value > before, value, before)
                seen[i] = wp.where(value > before, number, others)
    return near, seen


@wp.func
def nearest(scratch: Scratch, tile: int, x0: int, y0: int, least: float):
    """Which faces in bins are seen in a tile, -1 for none, and 1 / depth, `least` for none."""
    near = Lanes(least)
    seen = Names(-1)
    near, seen = draw_bin(scratch, tile, x0, y0, near, seen)
    near, seen = draw_bin(scratch, scratch.head.shape[0] - 1, x0, y0, near, seen)
    return near, seen
