"""A camera rotation is a homography, from which the rotation follows."""

from __future__ import annotations

import math

import pytest
import torch
from kornia.geometry.conversions import axis_angle_to_rotation_matrix

from freezeframe.motion.camera.homography import homography_to_flow
from freezeframe.motion.camera.rotation_path import (
    camera_path,
    fit_rotation,
    focal_length,
    intrinsics,
)

SIZE = (360, 640)


def so3_exp(x: float, y: float, z: float) -> torch.Tensor:
    """Rotation by a vector in radians, [3, 3] float64."""
    return axis_angle_to_rotation_matrix(torch.tensor([[x, y, z]], dtype=torch.float64))[0]


def rotation_homography(rotation: torch.Tensor, focal: float) -> torch.Tensor:
    K = intrinsics(focal, SIZE)
    matrix = K @ rotation @ torch.linalg.inv(K)
    return matrix / matrix[2, 2]


@pytest.mark.parametrize("focal", [400.0, 900.0])
def test_focal_length_of_a_turning_camera(focal):
    """To 6 %: the candidates are 5 % apart."""
    steps = [rotation_homography(so3_exp(0.01 * k, 0.05, 0.004), focal) for k in range(5)]
    assert focal_length(steps, SIZE) == pytest.approx(focal, rel=0.06)


def test_path_repeats_the_rotations_between_frames():
    """R(k + 1) = R(k, k + 1) R(k), to single precision."""
    rotation_steps = [so3_exp(0.01, -0.03, 0.002), so3_exp(-0.02, 0.01, 0.0), so3_exp(0.0, 0.02, -0.01)]
    path = camera_path(
        [rotation_homography(t, 600.0) for t in rotation_steps], torch.arange(4.0), SIZE, focal=600.0
    )
    assert path.kind == "rotation"
    for k, step in enumerate(rotation_steps):
        between = path.rotations[k + 1] @ path.rotations[k].mT
        torch.testing.assert_close(between, step.float(), atol=1e-5, rtol=0)


def test_a_pan_to_the_left_shows_the_scene_moving_right():
    """If the camera rotates left, points move right on the screen by focal length times tan(angle)."""
    angle = 0.02
    uv = homography_to_flow(rotation_homography(so3_exp(0, angle, 0), 500.0), SIZE)
    centre = uv[:, SIZE[0] // 2, SIZE[1] // 2]
    assert float(centre[0]) == pytest.approx(500 * math.tan(angle), rel=0.01)


def test_a_camera_at_rest_is_still():
    assert camera_path([torch.eye(3)] * 3, torch.arange(4.0), SIZE).kind == "still"


def test_background_off_its_homographies_means_parallax():
    steps = [rotation_homography(so3_exp(0, 0.01, 0), 600.0)] * 3
    assert camera_path(steps, torch.arange(4.0), SIZE, parallax=4.0).kind == "parallax"


def test_registration_errors_of_few_pairs_are_no_parallax():
    """Errors of three pixels at two pairs of eight are registration errors; at all pairs, parallax."""
    right = rotation_homography(so3_exp(0, 0.01, 0), 600.0)
    sheared = right.clone()
    sheared[0, 1] += 8 / SIZE[0]
    times = torch.arange(9.0)
    assert camera_path([*[right] * 6, sheared, sheared], times, SIZE, focal=600.0).kind == "rotation"
    assert camera_path([sheared] * 8, times, SIZE, focal=600.0).kind == "parallax"


def test_short_translation_is_parallax():
    """Errors of six pixels at two pairs of eight are no registration errors."""
    right = rotation_homography(so3_exp(0, 0.01, 0), 600.0)
    translated = right.clone()
    translated[0, 1] += 16 / SIZE[0]
    assert (
        camera_path([*[right] * 6, translated, translated], torch.arange(9.0), SIZE, focal=600.0).kind
        == "parallax"
    )


def test_a_gap_continues_the_motion():
    step = rotation_homography(so3_exp(0, 0.02, 0), 600.0)
    path = camera_path([step, None, step], torch.arange(4.0), SIZE, focal=600.0)
    torch.testing.assert_close(path.rotations[3], so3_exp(0, 0.06, 0).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("focal", [200.0, 1500.0, 8000.0])
def test_a_rotation_fits_to_the_pixel_at_any_focal_length(focal):
    """A perspective error of a fifth of a pixel at the corners changes the rotation by no more than that.

    In the matrix of rays it would be multiplied by the focal length.
    """
    size = (160, 240)
    K = intrinsics(focal, size)
    exact = K @ so3_exp(9 / focal, -6 / focal, 0.01) @ torch.linalg.inv(K)
    nearly = exact.clone()
    nearly[2, 0] += 1e-5
    fitted = K @ fit_rotation(nearly, K) @ torch.linalg.inv(K)
    uv_error = homography_to_flow(fitted, size) - homography_to_flow(exact, size)
    assert float(uv_error.norm(dim=0).max()) < 0.5
