"""The pixels of a tile side by side, in Warp's vectors and matrices.

Work on a tile is done in loops over its pixels, one for each step of it. A loop that does nothing but compute
becomes vector instructions, several pixels at a time, which is several times as fast as all steps for one
pixel after the other. This needs values that live in the kernel, of a length known when it is compiled;
so what it takes from arrays of the scene for each pixel, at places that differ, has loops of its own.

Trap: a Warp function copies its arguments. None that takes lanes may be called within such a loop.
"""

import math

import warp as wp

from simscaleai.rendering.loading import PIXELS

# Of modules with kernels. Short loops stay loops too, or they could not become vectors. The flags let numbers
# be taken for finite, without which a minimum is a handful of instructions, and sums be taken in any order.
OPTIONS = {
    "enable_backward": False,
    "max_unroll": 4,
    "cpu_compiler_flags": f"{wp.config.cpu_compiler_flags or ''} -w -menable-no-nans -menable-no-infs"
    " -fno-signed-zeros -mreassociate -freciprocal-math -ffp-contract=fast",
}

Lanes = wp.types.vector(length=PIXELS, dtype=wp.float32)  # a number for each pixel
Names = wp.types.vector(length=PIXELS, dtype=wp.int32)  # the number of a geom or face
Points = wp.types.matrix(shape=(3, PIXELS), dtype=wp.float32)  # a point or direction: points[:, i]

ROOT = 0x3F3504F3  # the bits of root 1/2


@wp.func
def unit(v: wp.vec3):
    """v at length 1, or nothing of nothing; without a branch, unlike Warp's."""
    return v / wp.sqrt(wp.max(wp.dot(v, v), 1.0e-20))


@wp.func
def raised(x: float, exponent: float):
    """x > 0 to the power of `exponent`, to six digits, without a call of C.

    It is 2 ** (exponent * log2 x), by the series of the inverse hyperbolic tangent for the logarithm of the
    mantissa, from root 1/2 to root 2, and that of the exponential function for what is beside a whole power.
    """
    bits = wp.cast(x, wp.int32)
    whole = (bits - wp.static(ROOT)) >> 23
    mantissa = wp.cast(bits - (whole << 23), wp.float32)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    q = s * s
    series = s * (1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q / 7.0)))
    power = exponent * (float(whole) + wp.static(2.0 / math.log(2.0)) * series)
    power = wp.clamp(power, -126.0, 126.0)
    near = wp.floor(power + 0.5)
    z = (power - near) * wp.static(math.log(2.0))
    rest = 1.0 + z * (1.0 + z * (0.5 + z * (1.0 / 6.0 + z * (1.0 / 24.0 + z / 120.0))))
    return rest * wp.cast((int(near) + 127) << 23, wp.float32)
