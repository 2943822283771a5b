from __future__ import annotations

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from simscaleai.sim.robots.kinematics import (
    damped_least_squares,
    geometric_jacobian,
    jacobian_transpose,
    rotation_error_map,
)
from simscaleai.sim.robots.panda import PANDA
from simscaleai.sim.scene import ASSETS, load_model

DOWN = np.diag([1.0, -1.0, -1.0])


def arms(n: int) -> tuple[np.ndarray, ...]:
    """Axes (n, 7, 3), anchors (n, 7, 3), tool (n, 3) and MuJoCo's Jacobians (n, 6, 7), at random postures."""
    model = load_model(ASSETS / "reach.xml", 0.002, PANDA)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    low, high = model.jnt_range[:7].T
    site = model.site(PANDA.ee_site).id
    found = []
    for _ in range(n):
        data.qpos[:7] = rng.uniform(low, high)
        mujoco.mj_forward(model, data)
        jacobian = np.zeros((6, model.nv))
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        found.append((data.xaxis[:7], data.xanchor[:7], data.site_xpos[site], jacobian[:, :7]))
        found[-1] = tuple(part.copy() for part in found[-1])
    return tuple(np.stack(part) for part in zip(*found, strict=True))


def test_geometric_jacobian_is_mujocos() -> None:
    axes, anchors, point, expected = arms(20)
    jacobian_t = geometric_jacobian(axes, anchors, point)
    assert jacobian_t.shape == (20, 7, 6)
    np.testing.assert_allclose(jacobian_t.mT, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.3, 1.5])
def test_rotation_error_is_axis_times_sine_of_the_angle(angle: float) -> None:
    rng = np.random.default_rng(1)
    axes = rng.normal(size=(10, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    # hands that a turn by `angle` about `axes`, in the world frame, brings to where they should be
    hands = Rotation.from_rotvec(-angle * axes).as_matrix() @ DOWN
    error = hands.reshape(10, 9) @ rotation_error_map(DOWN.reshape(9))
    np.testing.assert_allclose(error, np.sin(angle) * axes, rtol=0, atol=1e-12)


def test_damped_least_squares_is_the_least_squares_solution() -> None:
    rng = np.random.default_rng(2)
    damping = 0.05
    jacobian = rng.normal(size=(8, 6, 7))
    error, bias = rng.normal(size=(8, 6)), rng.normal(size=(8, 7))
    step = damped_least_squares(jacobian.mT, error, bias, damping**2 * np.eye(6))
    for i in range(8):
        # |J dq - e|^2 + damping^2 |dq - b|^2 as one stacked system
        stacked = np.vstack((jacobian[i], damping * np.eye(7)))
        expected = np.linalg.lstsq(stacked, np.concatenate((error[i], damping * bias[i])))[0]
        np.testing.assert_allclose(step[i], expected, rtol=0, atol=1e-9)


def test_damping_bounds_the_step_at_a_singularity() -> None:
    jacobian = np.zeros((1, 6, 7))
    jacobian[0, 0, 0] = 1e-6  # almost no joint moves the hand along x
    step = damped_least_squares(
        jacobian.mT, np.eye(1, 6), np.zeros((1, 7)), np.full((6, 6), 0.0) + 0.05**2 * np.eye(6)
    )
    # J / (J^2 + damping^2) = 1e-6 / 0.0025
    np.testing.assert_allclose(step, 4e-4 * np.eye(1, 7), rtol=1e-6)


def test_jacobian_transpose_takes_the_best_step_along_the_gradient() -> None:
    rng = np.random.default_rng(3)
    jacobian, error = rng.normal(size=(5, 6, 7)), rng.normal(size=(5, 6))
    step = jacobian_transpose(jacobian.mT, error)
    for i in range(5):
        gradient = jacobian[i].T @ error[i]

        def left(size: float, i: int = i, gradient: np.ndarray = gradient) -> float:
            return float(np.linalg.norm(error[i] - jacobian[i] @ (size * gradient)))

        size = step[i][0] / gradient[0]
        np.testing.assert_allclose(step[i], size * gradient)
        assert left(size) < min(left(0.9 * size), left(1.1 * size), left(0.0))


@pytest.mark.parametrize("solve", [damped_least_squares, jacobian_transpose])
def test_a_row_does_not_depend_on_the_others(solve: object) -> None:
    axes, anchors, point, _ = arms(33)
    rng = np.random.default_rng(4)
    error, bias = rng.normal(size=(33, 6)), rng.normal(size=(33, 7))

    def run(rows: slice) -> np.ndarray:
        jacobian_t = geometric_jacobian(axes[rows], anchors[rows], point[rows])
        if solve is jacobian_transpose:
            return jacobian_transpose(jacobian_t, error[rows])
        return damped_least_squares(jacobian_t, error[rows], bias[rows], 0.05**2 * np.eye(6))

    whole = run(slice(None))
    for i in range(33):
        np.testing.assert_array_equal(run(slice(i, i + 1))[0], whole[i])
