"""A scene painted around a camera that only turns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from freezeframe.data.synthesis.demo.known_views import sphere_view
from freezeframe.data.types import CameraPath
from freezeframe.splatting.camera.lie import poses, rotations
from freezeframe.splatting.camera.trajectory import SplineTrack, Views
from freezeframe.splatting.optim.optimizer import shrunk
from freezeframe.splatting.scene.panorama_model import FINER, Canvas, canvas_for, sampled

SIZE = (60, 100)
LENS = torch.tensor([[110.0, 0, 49.5], [0, 110, 29.5], [0, 0, 1]])


def track_of(turns: Tensor) -> SplineTrack:
    count = len(turns)
    path = CameraPath(
        times=torch.arange(count).float(), rotations=rotations(turns), translations=torch.zeros(count, 3),
        intrinsics=LENS, kind="rotation",
    )  # fmt: skip
    return SplineTrack(path, SIZE, shutter=0.5)


def waves(size: tuple[int, int]) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(x / k) * torch.cos(y / (k + 1)) for k in (10.0, 14.0, 18.0)])


def test_a_canvas_shows_what_a_second_way_of_drawing_shows():
    """The same sphere, drawn with two bicubic rays a pixel's side: equal to half an 8-bit step or so."""
    reach = (0.8, 0.5)
    panorama = waves((300, 480))
    turn = torch.tensor([[0.1, -0.2, 0.05]])
    canvas = Canvas((-reach[0], -reach[1], reach[0], reach[1]), 300.0, torch.eye(3))
    canvas.roots.data = panorama.sqrt()
    views = Views(poses=poses(rotations(turn), torch.zeros(1, 3)), lenses=LENS[None])
    expected = sphere_view(panorama, LENS, SIZE, reach=reach)(views.poses[0])
    assert float((canvas(views, SIZE)[0] - expected).detach().abs().max()) < 0.004


def test_a_turned_camera_sees_a_homography():
    """K R K^-1 maps one view onto another, to a hundredth of a pixel."""
    turn = rotations(torch.tensor([0.02, 0.06, 0.03]))
    canvas = Canvas((-1, -1, 1, 1), 150.0, torch.eye(3))
    lenses = LENS.expand(2, 3, 3)
    grid = canvas.grid(
        Views(poses=poses(torch.stack([torch.eye(3), turn]), torch.zeros(2, 3)), lenses=lenses), SIZE
    )
    pixel = torch.tensor([60.0, 20.0, 1.0])
    seen = LENS @ turn @ torch.linalg.inv(LENS) @ pixel
    x, y = (seen[:2] / seen[2]).tolist()
    straight = grid[0, 20, 60] * 150
    corner = grid[1, int(y), int(x)], grid[1, int(y), int(x) + 1], grid[1, int(y) + 1, int(x)]
    turned = corner[0] + (x - int(x)) * (corner[1] - corner[0]) + (y - int(y)) * (corner[2] - corner[0])
    torch.testing.assert_close(turned * 150, straight, atol=0.01, rtol=0)


def test_the_canvas_holds_everything_that_is_seen():
    track = track_of(0.3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0)))
    canvas = canvas_for(track, 6, SIZE, density=110.0)
    for frame in range(6):
        grid = canvas.grid(track.at(frame, torch.linspace(-0.5, 0.5, 7)), SIZE)
        assert float(grid.detach().abs().max()) < 1


def test_painting_sharp_frames_gives_the_scene_back():
    """Laid where they look, frames of a known sphere show it again when looked at: 35 dB and more."""
    track = track_of(torch.stack([torch.zeros(5), torch.linspace(-0.1, 0.1, 5), torch.zeros(5)], dim=1))
    view = sphere_view(waves((300, 480)), LENS, SIZE, reach=(0.8, 0.5))
    with torch.no_grad():
        seen = [track.at(k, torch.zeros(1)) for k in range(5)]
    views = Views(poses=torch.cat([s.poses for s in seen]), lenses=torch.cat([s.lenses for s in seen]))
    frames = torch.stack([view(pose) for pose in views.poses])
    canvas = canvas_for(track, 5, SIZE, density=110.0 * FINER)
    canvas.paint(frames, views, torch.ones(5, *SIZE))
    again = canvas(views, SIZE)[..., 3:-3, 3:-3]
    error = (again - frames[..., 3:-3, 3:-3]).square().mean()
    assert -10 * math.log10(float(error.detach())) > 35


def test_a_finer_canvas_shows_the_same():
    canvas = Canvas((-0.8, -0.5, 0.8, 0.5), 100.0, torch.eye(3))
    canvas.roots.data = waves(tuple(canvas.roots.shape[1:])).sqrt()
    views = Views(poses=torch.eye(4)[None], lenses=LENS[None])
    apart = (canvas(views, SIZE) - canvas.resized(2)(views, SIZE)).abs()
    assert float(apart.detach().mean()) < 0.005


@pytest.mark.parametrize("shrink", [2, 4])
def test_smaller_frames_are_means_of_pixels(shrink):
    """A camera with larger pixels sees what the mean of small ones sees, of a smooth scene."""
    canvas = Canvas((-0.8, -0.5, 0.8, 0.5), 300.0, torch.eye(3))
    y, x = torch.meshgrid(torch.linspace(0, 1, 300), torch.linspace(0, 1, 480), indexing="ij")
    canvas.roots.data = torch.stack([x, y, x * y]).sqrt()
    views = Views(poses=torch.eye(4)[None], lenses=LENS[None])
    small = canvas(shrunk(views, shrink), (SIZE[0] // shrink, SIZE[1] // shrink))
    mean = torch.nn.functional.avg_pool2d(canvas(views, SIZE), shrink)
    assert float((small - mean).detach().abs().max()) < 1e-3


def test_sampling_lends_its_transpose_to_painting():
    """<look(x), y> = <x, lay(y)>: what painting relies on."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(2, 9, 12, generator=generator, requires_grad=True)
    grid = torch.rand(1, 5, 6, 2, generator=generator) * 1.6 - 0.8
    seen = sampled(picture, grid)
    other = torch.randn(seen.shape, generator=generator)
    (laid,) = torch.autograd.grad((seen * other).sum(), picture)
    assert float((seen * other).detach().sum()) == pytest.approx(
        float((picture * laid).detach().sum()), rel=1e-4
    )
