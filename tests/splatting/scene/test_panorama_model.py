"""The panorama of a rotating camera."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from freezeframe.data.types import CameraPath
from freezeframe.splatting.camera.lie import compose_se3, so3_exp
from freezeframe.splatting.camera.trajectory import SplineTrajectory, Views
from freezeframe.splatting.scene.panorama_model import (
    SUPERSAMPLING,
    PanoramaModel,
    build_panorama,
    sample_panorama,
)
from tests.support.known_views import sphere_view

SIZE = (60, 100)
INTRINSICS = torch.tensor([[110.0, 0, 49.5], [0, 110, 29.5], [0, 0, 1]])


def trajectory_of(turns: Tensor) -> SplineTrajectory:
    count = len(turns)
    path = CameraPath(
        times=torch.arange(count).float(), rotations=so3_exp(turns), translations=torch.zeros(count, 3),
        intrinsics=INTRINSICS, kind="rotation",
    )  # fmt: skip
    return SplineTrajectory(path, SIZE, shutter=0.5)


def waves(size: tuple[int, int]) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(x / k) * torch.cos(y / (k + 1)) for k in (10.0, 14.0, 18.0)])


def test_a_canvas_shows_what_a_second_way_of_drawing_shows():
    """Against the same sphere, rendered with two bicubic rays per pixel side: within one 8-bit step."""
    reach = (0.8, 0.5)
    panorama = waves((300, 480))
    turn = torch.tensor([[0.1, -0.2, 0.05]])
    model = PanoramaModel((-reach[0], -reach[1], reach[0], reach[1]), 300.0, torch.eye(3))
    model.sqrt_linear.data = panorama.sqrt()
    views = Views(viewmats=compose_se3(so3_exp(turn), torch.zeros(1, 3)), Ks=INTRINSICS[None])
    expected = sphere_view(panorama, INTRINSICS, SIZE, reach=reach)(views.viewmats[0])
    assert float((model(views, SIZE)[0] - expected).detach().abs().max()) < 0.004


def test_a_turned_camera_sees_a_homography():
    """K R K^-1 maps one view to the other, within a hundredth of a pixel."""
    turn = so3_exp(torch.tensor([0.02, 0.06, 0.03]))
    model = PanoramaModel((-1, -1, 1, 1), 150.0, torch.eye(3))
    Ks = INTRINSICS.expand(2, 3, 3)
    sampling_grid = model.sampling_grid(
        Views(viewmats=compose_se3(torch.stack([torch.eye(3), turn]), torch.zeros(2, 3)), Ks=Ks), SIZE
    )
    pixel = torch.tensor([60.0, 20.0, 1.0])
    sampled = INTRINSICS @ turn @ torch.linalg.inv(INTRINSICS) @ pixel
    x, y = (sampled[:2] / sampled[2]).tolist()
    straight = sampling_grid[0, 20, 60] * 150
    corner = (
        sampling_grid[1, int(y), int(x)],
        sampling_grid[1, int(y), int(x) + 1],
        sampling_grid[1, int(y) + 1, int(x)],
    )
    turned = corner[0] + (x - int(x)) * (corner[1] - corner[0]) + (y - int(y)) * (corner[2] - corner[0])
    torch.testing.assert_close(turned * 150, straight, atol=0.01, rtol=0)


def test_the_canvas_holds_everything_that_is_seen():
    trajectory = trajectory_of(0.3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0)))
    model = build_panorama(trajectory, 6, SIZE, density=110.0)
    for frame in range(6):
        sampling_grid = model.sampling_grid(trajectory.at(frame, torch.linspace(-0.5, 0.5, 7)), SIZE)
        assert float(sampling_grid.detach().abs().max()) < 1


def test_painting_sharp_frames_gives_the_scene_back():
    """Frames of a known sphere are rendered again from their backprojection with more than 35 dB."""
    trajectory = trajectory_of(
        torch.stack([torch.zeros(5), torch.linspace(-0.1, 0.1, 5), torch.zeros(5)], dim=1)
    )
    view = sphere_view(waves((300, 480)), INTRINSICS, SIZE, reach=(0.8, 0.5))
    with torch.no_grad():
        views = Views.cat([trajectory.at(k, torch.zeros(1)) for k in range(5)])
    frames = torch.stack([view(pose) for pose in views.viewmats])
    model = build_panorama(trajectory, 5, SIZE, density=110.0 * SUPERSAMPLING)
    model.backproject(frames, views, torch.ones(5, *SIZE))
    again = model(views, SIZE)[..., 3:-3, 3:-3]
    error = (again - frames[..., 3:-3, 3:-3]).square().mean()
    assert -10 * math.log10(float(error.detach())) > 35


def test_a_finer_canvas_shows_the_same():
    model = PanoramaModel((-0.8, -0.5, 0.8, 0.5), 100.0, torch.eye(3))
    model.sqrt_linear.data = waves(tuple(model.sqrt_linear.shape[1:])).sqrt()
    views = Views(viewmats=torch.eye(4)[None], Ks=INTRINSICS[None])
    apart = (model(views, SIZE) - model.resize(2)(views, SIZE)).abs()
    assert float(apart.detach().mean()) < 0.005


@pytest.mark.parametrize("downscale", [2, 4])
def test_smaller_frames_are_means_of_pixels(downscale):
    """A camera with larger pixels renders the block means of small ones, for a smooth scene."""
    model = PanoramaModel((-0.8, -0.5, 0.8, 0.5), 300.0, torch.eye(3))
    y, x = torch.meshgrid(torch.linspace(0, 1, 300), torch.linspace(0, 1, 480), indexing="ij")
    model.sqrt_linear.data = torch.stack([x, y, x * y]).sqrt()
    views = Views(viewmats=torch.eye(4)[None], Ks=INTRINSICS[None])
    small = model(views.downscale(downscale), (SIZE[0] // downscale, SIZE[1] // downscale))
    mean = torch.nn.functional.avg_pool2d(model(views, SIZE), downscale)
    assert float((small - mean).detach().abs().max()) < 1e-3


def test_sampling_lends_its_transpose_to_painting():
    """<Sx, y> = <x, S'y> of the sampling operator S: backprojection uses S'."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 9, 12, generator=generator, requires_grad=True)
    sampling_grid = torch.rand(1, 5, 6, 2, generator=generator) * 1.6 - 0.8
    sampled = sample_panorama(image, sampling_grid)
    other = torch.randn(sampled.shape, generator=generator)
    (adjoint,) = torch.autograd.grad((sampled * other).sum(), image)
    assert float((sampled * other).detach().sum()) == pytest.approx(
        float((image * adjoint).detach().sum()), rel=1e-4
    )
