"""SIMD values of a tile: one number, index or vector for each of its 8 x 8 pixels.

Work on a tile is a sequence of loops over its pixels, one loop per operation. Clang vectorizes a loop that
only computes (8 or 16 pixels per instruction), which is several times as fast as running all operations for
one pixel after the other. It can do so only for values in local variables whose length is known at compile
time. Gathers from scene arrays do not vectorize and stand in loops of their own.

Trap: a Warp function copies its arguments. Never call one that takes tile values inside such a loop.
"""

import math

import warp as wp

from simscaleai.rendering.loading import PIXELS

# Options of every module with kernels.
# max_unroll: unrolled loops would not be vectorized, so even short ones stay loops.
# no-nans, no-infs: a minimum becomes one instruction. reassociate: sums may be taken in any order.
OPTIONS = {
    "enable_backward": False,
    "max_unroll": 4,
    "cpu_compiler_flags": f"{wp.config.cpu_compiler_flags or ''} -w -menable-no-nans -menable-no-infs"
    " -fno-signed-zeros -mreassociate -freciprocal-math -ffp-contract=fast",
}

TileFloat = wp.types.vector(length=PIXELS, dtype=wp.float32)  # (64,) a number per pixel
TileInt = wp.types.vector(length=PIXELS, dtype=wp.int32)  # (64,) a geom or face index per pixel
TileVec3 = wp.types.matrix(shape=(3, PIXELS), dtype=wp.float32)  # (3, 64): pixel i has [:, i]

SQRT_HALF_BITS = 0x3F3504F3  # float32 bits of sqrt(1/2)


@wp.func
def normalized(v: wp.vec3):
    """Return v at length 1, zero for zero; without the branch of `wp.normalize`, so that loops vectorize."""
    return v / wp.sqrt(wp.max(wp.dot(v, v), 1.0e-20))


@wp.func
def fast_pow(x: float, exponent: float):
    """Return x ** exponent for x > 0, to six digits; `wp.pow` would call libm and stop vectorization.

    It is 2 ** (exponent * log2(x)), with the artanh series for the logarithm of the mantissa and the
    exponential series for the fractional part.
    """
    # x = mantissa * 2 ** whole, with the mantissa in [sqrt(1/2), sqrt(2))
    bits = wp.cast(x, wp.int32)
    whole = (bits - wp.static(SQRT_HALF_BITS)) >> 23
    mantissa = wp.cast(bits - (whole << 23), wp.float32)
    # ln(m) = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + s^7/7 + ...) with s = (m - 1) / (m + 1)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    q = s * s
    artanh = s * (1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q / 7.0)))
    power = exponent * (float(whole) + wp.static(2.0 / math.log(2.0)) * artanh)
    power = wp.clamp(power, -126.0, 126.0)  # float32 has no larger exponents
    # 2 ** power = 2 ** nearest * exp(z), |z| <= ln(2) / 2
    nearest = wp.floor(power + 0.5)
    z = (power - nearest) * wp.static(math.log(2.0))
    fraction = 1.0 + z * (1.0 + z * (0.5 + z * (1.0 / 6.0 + z * (1.0 / 24.0 + z / 120.0))))
    return fraction * wp.cast((int(nearest) + 127) << 23, wp.float32)
