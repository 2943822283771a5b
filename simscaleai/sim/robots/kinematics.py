"""Differential kinematics of a serial arm, batched, from joint axes and anchors.

Everything takes and returns arrays with a leading axis n, of any array-API library.
"""

from __future__ import annotations

from simscaleai.sim.arrays import Array, array_namespace


def geometric_jacobian(axes: Array, anchors: Array, point: Array) -> Array:
    """Return the transposed Jacobian of a point that hinge joints carry.

    Args:
      axes: (n, j, 3) joint axes, world frame, unit length.
      anchors: (n, j, 3) joint positions, world frame, m.
      point: (n, 3) the point, world frame, m.

    Returns:
      (n, j, 6): for each joint, the point's velocity (m/s) and angular velocity (rad/s) at 1 rad/s.
    """
    xp = array_namespace(axes)
    arm = point[:, None, :] - anchors
    # v = axis x arm for each hinge, written out: faster than a cross product on small arrays
    ax, ay, az = axes[..., 0], axes[..., 1], axes[..., 2]
    rx, ry, rz = arm[..., 0], arm[..., 1], arm[..., 2]
    linear = xp.stack((ay * rz - az * ry, az * rx - ax * rz, ax * ry - ay * rx), axis=-1)
    return xp.concat((linear, axes), axis=-1)


def rotation_error_map(target: Array) -> Array:
    """Return the linear map (9, 3) from a row-major rotation matrix to its error against `target` (9,).

    The error is half the sum of the cross products of matching columns of the two matrices: the
    rotation's axis in the world frame times the sine of its angle, so that small errors are in rad.
    """
    xp = array_namespace(target)
    levi_civita = [[[0, 0, 0], [0, 0, 1], [0, -1, 0]], [[0, 0, -1], [0, 0, 0], [1, 0, 0]]]
    levi_civita += [[[0, 1, 0], [-1, 0, 0], [0, 0, 0]]]
    cross = xp.asarray(levi_civita, dtype=target.dtype)  # (a x b)_k = a_i b_j cross[i, j, k]
    goal = xp.reshape(target, (3, 3))
    # entry [i, c, k]: what element (i, c) adds to component k, (3, 3, 3)
    return 0.5 * xp.reshape(xp.tensordot(cross, goal, axes=((1,), (0,))).mT, (9, 3))


def damped_least_squares(jacobian_t: Array, error: Array, bias: Array, damping: Array) -> Array:
    """Return joint steps that realize `error`, close to `bias` where the task leaves freedom.

    Minimizes |J dq - error|^2 + damping^2 |dq - bias|^2 (Nakamura & Hanafusa 1986; Wampler 1986, with
    the posture term of Liegeois 1977): dq = bias + J^T (J J^T + damping^2 I)^-1 (error - J bias).

    Args:
      jacobian_t: (n, j, 6) transposed Jacobians.
      error: (n, 6) displacement (m) and rotation (rad) wanted.
      bias: (n, j) joint steps preferred, rad.
      damping: (6, 6), damping^2 times the identity; larger is slower and calmer near singularities.

    Returns:
      (n, j) joint steps, rad.
    """
    xp = array_namespace(jacobian_t)
    jacobian = jacobian_t.mT
    gram = jacobian @ jacobian_t + damping
    residual = error[..., None] - jacobian @ bias[..., None]
    return bias + (jacobian_t @ xp.linalg.solve(gram, residual))[..., 0]


def jacobian_transpose(jacobian_t: Array, error: Array) -> Array:
    """Joint steps along the gradient of the squared task error: no inverse, no singularity.

    Slower than least squares, and without a preferred posture: there is no null space to keep it in. The
    step length is the optimal one of Buss (2004), <e, J J^T e> / |J J^T e|^2.

    Args:
      jacobian_t: (n, j, 6) transposed Jacobians.
      error: (n, 6) displacement (m) and rotation (rad) wanted.

    Returns:
      (n, j) joint steps, rad.
    """
    xp = array_namespace(jacobian_t)
    gradient = jacobian_t @ error[..., None]
    moved = (jacobian_t.mT @ gradient)[..., 0]
    step = xp.vecdot(error, moved) / (xp.vecdot(moved, moved) + 1e-12)
    return step[:, None] * gradient[..., 0]
