"""Lie groups, curves and camera trajectories."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from freezeframe.data.blur.operator import rolling_shutter_weights
from freezeframe.data.types import CameraPath
from freezeframe.splatting.camera.curves import bezier, hermite, spline_slopes
from freezeframe.splatting.camera.lie import compose_se3, se3_exp, so3_exp, so3_log
from freezeframe.splatting.camera.trajectory import BezierTrajectory, SplineTrajectory, Views, pixel_scale

SIZE = (90, 160)
INTRINSICS = torch.tensor([[150.0, 0, 79.5], [0, 150, 44.5], [0, 0, 1]])


def cross_matrix(vector: Tensor) -> Tensor:
    x, y, z = vector.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=vector.dtype)


def rotating_path(vectors: Tensor, *, gap: float = 1.0) -> CameraPath:
    count = len(vectors)
    return CameraPath(
        times=gap * torch.arange(count).float(), rotations=so3_exp(vectors),
        translations=torch.zeros(count, 3), intrinsics=INTRINSICS, kind="rotation",
    )  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=6, max_size=6))
def test_turns_and_rigid_motions_are_matrix_exponentials(numbers):
    twist = torch.tensor(numbers, dtype=torch.float64)
    whole = torch.zeros(4, 4, dtype=torch.float64)
    whole[:3, :3], whole[:3, 3] = cross_matrix(twist[:3]), twist[3:]
    expected = torch.linalg.matrix_exp(whole)
    torch.testing.assert_close(se3_exp(twist), expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(so3_exp(twist[:3]), expected[:3, :3], atol=1e-9, rtol=1e-9)


def test_a_turn_by_nothing_has_a_derivative():
    """Fits start at zero, where the norm of a vector has none."""
    vector = torch.zeros(3, requires_grad=True)
    so3_exp(vector)[0, 1].backward()
    torch.testing.assert_close(vector.grad, torch.tensor([0.0, 0, -1]))


def test_turn_vectors_follow_a_pan_of_more_than_a_circle():
    angles = torch.linspace(0, 3 * math.pi, 30)
    vectors = torch.stack([torch.zeros(30), angles, torch.zeros(30)], dim=1)
    torch.testing.assert_close(so3_log(so3_exp(vectors)), vectors, atol=1e-3, rtol=1e-3)


def test_the_spline_is_the_natural_cubic_one():
    """Second implementation: the tridiagonal system for second derivatives (Numerical Recipes, 3.3)."""
    times = torch.tensor([0.0, 1, 2.5, 3, 4], dtype=torch.float64)
    values = torch.randn(5, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t, y = times.numpy(), values[:, 0].numpy()
    gaps = np.diff(t)
    system, right = np.eye(5), np.zeros(5)
    for k in range(1, 4):
        system[k, k - 1 : k + 2] = gaps[k - 1] / 6, (gaps[k - 1] + gaps[k]) / 3, gaps[k] / 6
        right[k] = (y[k + 1] - y[k]) / gaps[k] - (y[k] - y[k - 1]) / gaps[k - 1]
    bends = np.linalg.solve(system, right)
    for when in np.linspace(0, 3.999, 37):
        k = int(np.searchsorted(t, when, side="right")) - 1
        a, b = (t[k + 1] - when) / gaps[k], (when - t[k]) / gaps[k]
        expected = (
            a * y[k] + b * y[k + 1] + ((a**3 - a) * bends[k] + (b**3 - b) * bends[k + 1]) * gaps[k] ** 2 / 6
        )
        actual = hermite(torch.tensor([when]), times, values, spline_slopes(times) @ values)
        assert actual.item() == pytest.approx(expected, abs=1e-9)


def test_beyond_its_ends_the_spline_is_straight():
    times = torch.arange(4.0)
    values = torch.tensor([[0.0], [1], [4], [5]])
    slopes = spline_slopes(times) @ values
    actual = hermite(torch.tensor([-1.0, 4.0]), times, values, slopes)
    torch.testing.assert_close(actual[:, 0], torch.stack([0 - slopes[0, 0], 5 + slopes[3, 0]]))


def test_one_frame_stands_still():
    trajectory = SplineTrajectory(rotating_path(torch.zeros(1, 3)), SIZE, shutter=0.5)
    views = trajectory.at(0, torch.tensor([-0.5, 0, 0.5]))
    torch.testing.assert_close(views.viewmats, torch.eye(4).expand(3, 4, 4))


@pytest.mark.parametrize("shutter", [0.25, 0.8])
def test_blur_is_the_way_between_frames_times_the_shutter(shutter):
    """A pan of 6 px a frame has a blur length of 6 s px in every frame."""
    pan = torch.stack([torch.zeros(7), torch.arange(7) * 6 / 150, torch.zeros(7)], dim=1)
    trajectory = SplineTrajectory(rotating_path(pan, gap=1 / 24), SIZE, shutter=shutter)
    assert [trajectory.blur_length(k) for k in range(7)] == pytest.approx([6 * shutter] * 7, abs=0.02)
    assert trajectory.spline_motion(3).tolist() == pytest.approx([0, 6 * shutter], abs=0.02)


def test_frames_lie_where_they_were_told_to():
    path = rotating_path(0.1 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1)))
    trajectory = SplineTrajectory(path, SIZE, shutter=0.5)
    for frame in range(6):
        view = trajectory.at(frame, torch.zeros(1))
        torch.testing.assert_close(view.viewmats[0, :3, :3], path.rotations[frame], atol=1e-5, rtol=0)
        torch.testing.assert_close(view.Ks[0], INTRINSICS)


def test_ways_are_kept_for_cameras_that_move():
    vectors = 0.2 * torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    translations = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
    path = CameraPath(
        times=torch.arange(5.0),
        rotations=so3_exp(vectors),
        translations=translations,
        intrinsics=INTRINSICS,
        kind="parallax",
    )
    for trajectory in (
        SplineTrajectory(path, SIZE, shutter=0.5, depth=3.0),
        BezierTrajectory(path, SIZE, depth=3.0),
    ):
        if isinstance(trajectory, BezierTrajectory):
            trajectory.control_points.data.zero_()
        for frame in range(5):
            actual = trajectory.at(frame, torch.zeros(1)).viewmats[0]
            torch.testing.assert_close(
                actual, compose_se3(path.rotations, translations)[frame], atol=1e-5, rtol=1e-5
            )


def test_sway_leaves_the_middle_where_it_was():
    """The mean pose of an exposure stays on the spline."""
    trajectory = SplineTrajectory(rotating_path(torch.zeros(4, 3)), SIZE, shutter=0.5)
    trajectory.exposure_offset.data.normal_(0, 4, generator=torch.Generator().manual_seed(0))
    subframe_times = trajectory.subframe_times(1, 400)
    mean = trajectory._pixels(1, subframe_times).mean(0)
    assert float(mean.detach().abs().max()) < 0.01  # pixels


def test_one_pixel_is_one_pixel():
    """A unit of each parameter moves the image by about one pixel."""
    scale = pixel_scale(INTRINSICS, SIZE, depth=4.0)
    corner = torch.tensor([-120.0 + 79.5, 44.5])  # halfway to the left border of the field
    point = torch.tensor([(corner[0] - 79.5) / 150 * 4, 0.0, 4.0])
    for k in range(3, 5):
        shift = torch.zeros(3)
        shift[k - 3] = scale[k]
        moved = point + shift
        pixel = 150 * moved[:2] / moved[2]
        assert float((pixel - 150 * point[:2] / point[2]).norm()) == pytest.approx(1, abs=0.02)
    ray = so3_exp(torch.tensor([0.0, float(scale[1]), 0])) @ torch.tensor([0.0, 0, 1])
    assert float(150 * ray[0] / ray[2]) == pytest.approx(1, abs=0.01)


def test_a_bezier_curve_of_equal_steps_is_a_line():
    control_points = torch.linspace(0, 3, 4)[:, None]
    t = torch.linspace(0, 1, 11)
    torch.testing.assert_close(bezier(control_points, t)[:, 0], 3 * t)


def test_free_curves_learn_where_their_moments_lie():
    trajectory = BezierTrajectory(rotating_path(torch.zeros(2, 3)), SIZE, count=7)
    torch.testing.assert_close(
        trajectory.subframe_times(0, 7), torch.linspace(-0.5, 0.5, 7), atol=1e-5, rtol=0
    )
    views = trajectory.at(0, trajectory.subframe_times(0, 7))
    views.viewmats.square().sum().backward()
    assert float(trajectory.subframe_logits.grad[0].abs().max()) > 0


@settings(deadline=None)
@given(st.floats(0.05, 1), st.floats(0, 1), st.integers(2, 40))
def test_rows_of_a_rolling_shutter_share_the_light(shutter, readout, count):
    subframe_times = (torch.arange(count) + 0.5) / count - 0.5
    weights = rolling_shutter_weights(subframe_times, 30, shutter=shutter, readout=readout)
    torch.testing.assert_close(weights.sum(0), torch.ones(30), atol=1e-5, rtol=0)
    middle = (weights * subframe_times[:, None]).sum(0) * (shutter + readout)
    expected = readout * ((torch.arange(30) + 0.5) / 30 - 0.5)
    # A row's light has its middle where the row was read, to within half a moment.
    assert float((middle - expected).abs().max()) <= 0.51 * (shutter + readout) / count + 1e-5


def test_views_that_are_split_and_joined_are_the_same():
    views = Views(viewmats=torch.randn(5, 4, 4), Ks=torch.randn(5, 3, 3))
    joined = Views.cat([views[:2], views[[2, 4]], views[3:4]])
    assert len(joined) == 5
    assert torch.equal(joined.viewmats, views.viewmats[[0, 1, 2, 4, 3]])
    assert torch.equal(joined.Ks, views.Ks[[0, 1, 2, 4, 3]])


def test_larger_pixels_keep_the_field_of_view():
    """The corners of the first and last pixel are the corners of the image at every scale."""
    views = Views(viewmats=torch.eye(4)[None], Ks=INTRINSICS[None])
    small = views.downscale(2)
    for pixel, corner in ((-0.5, -0.5), (SIZE[1] - 0.5, SIZE[1] / 2 - 0.5)):
        ray = (pixel - views.Ks[0, 0, 2]) / views.Ks[0, 0, 0]
        assert float((corner - small.Ks[0, 0, 2]) / small.Ks[0, 0, 0]) == pytest.approx(float(ray), abs=1e-6)
