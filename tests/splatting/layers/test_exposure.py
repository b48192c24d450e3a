"""Exposures of a moving texture: compiled kernels, torch, the definition pixel by pixel, laws of light."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.splatting.layers.exposure import Mesh, expose_layer, expose_reference

SIZE = (20, 32)  # height and width of the frame
EXPOSURES = [expose_layer, expose_reference]


def random_texture(height: int = 7, width: int = 9, *, seed: int = 0) -> Tensor:
    """Premultiplied light and alpha; the outermost texels are transparent."""
    rng = torch.Generator().manual_seed(seed)
    texture = torch.zeros(4, height, width)
    texture[:, 1:-1, 1:-1] = torch.rand(4, height - 2, width - 2, generator=rng)
    return texture


def shifted(positions: Tensor, texture: Tensor, *, mesh_size: tuple[int, int] = (2, 2)) -> Mesh:
    """A mesh that moves the texture along [M, K, 2] positions of its centre, and nothing else."""
    height, width = texture.shape[1:]
    half = (width / 2 + 2, height / 2 + 2)
    y, x = (torch.linspace(-side, side, count) for side, count in zip(half[::-1], mesh_size, strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    nodes = grid + torch.tensor([(width - 1) / 2, (height - 1) / 2])
    return Mesh(position=positions, nodes=nodes.expand(*positions.shape[:2], -1, -1, -1), half=half)


def bent(positions: Tensor, texture: Tensor, *, seed: int = 1) -> Mesh:
    """As `shifted`, with nodes that are off by about half a texel."""
    mesh = shifted(positions, texture, mesh_size=(3, 4))
    off = torch.randn(mesh.nodes.shape, generator=torch.Generator().manual_seed(seed))
    return Mesh(position=positions, nodes=mesh.nodes + 0.5 * off, half=mesh.half)


def line(start: tuple[float, float], step: tuple[float, float], count: int) -> Tensor:
    """[1, K, 2] equal steps."""
    return (torch.tensor(start) + torch.arange(count)[:, None] * torch.tensor(step))[None]


def definition(texture: Tensor, mesh: Mesh, size: tuple[int, int]) -> np.ndarray:
    """[4, H, W] of the one instant of a mesh, pixel by pixel and in float64."""

    def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
        j, i = min(int(y), len(image) - 2), min(int(x), len(image[0]) - 2)
        fy, fx = y - j, x - i
        top, bottom = ((1 - fx) * image[r, i] + fx * image[r, i + 1] for r in (j, j + 1))
        return (1 - fy) * top + fy * bottom

    texels = texture.double().permute(1, 2, 0).numpy()
    nodes, (x0, y0) = mesh.nodes[0, 0].double().numpy(), mesh.position[0, 0].tolist()
    out = np.zeros((4, *size))
    for y, x in np.ndindex(*size):
        across, down = (x - x0) / mesh.half[0], (y - y0) / mesh.half[1]
        if abs(across) >= 1 or abs(down) >= 1:
            continue
        rows, columns = nodes.shape[:2]
        u, v = bilinear(nodes, (across + 1) / 2 * (columns - 1), (down + 1) / 2 * (rows - 1))
        if 0 < u < texels.shape[1] - 1 and 0 < v < texels.shape[0] - 1:
            out[:, y, x] = bilinear(texels, u, v)
    return out


@pytest.mark.parametrize("expose", EXPOSURES)
def test_a_pixel_reads_the_texture_where_the_mesh_says(expose):
    texture = random_texture()
    mesh = bent(torch.tensor([[[15.3, 9.8]]]), texture)
    actual = expose(texture, mesh, SIZE)[0]
    assert actual.any()
    # float32 coordinates of some tens of pixels are good to a few millionths.
    np.testing.assert_allclose(actual.numpy(), definition(texture, mesh, SIZE), atol=2e-5)


@pytest.mark.parametrize(
    "start",
    [
        (12.3, 9.6),
        (-1.7, 9.6),
        (30.2, 9.6),
        (12.3, 0.4),
        (12.3, 19.2),
        (0.3, 19.7),
        (-60.0, 9.6),
        (90.0, 9.6),
    ],
    ids=["inside", "left", "right", "top", "bottom", "corner", "far left", "far right"],
)
def test_the_compiled_kernels_compute_what_torch_does(start):
    """Truth is torch in float64."""
    texture = random_texture()
    mesh = bent(torch.cat([line(start, (0.83, 0.31), 4), line(start, (-0.4, 0.9), 4)]), texture)
    exact = Mesh(position=mesh.position.double(), nodes=mesh.nodes.double(), half=mesh.half)
    truth = expose_reference(texture.double(), exact, SIZE)
    torch.testing.assert_close(expose_layer(texture, mesh, SIZE).double(), truth, atol=2e-5, rtol=0)


def test_an_exposure_carries_gradients_where_they_are_asked_for():
    texture = random_texture().requires_grad_()
    mesh = bent(line((8.2, 7.3), (1.3, -0.2), 12), texture)
    differentiable = expose_layer(texture, mesh, SIZE)
    assert torch.autograd.grad(differentiable.sum(), texture)[0].any()
    torch.testing.assert_close(
        differentiable.detach(), expose_layer(texture.detach(), mesh, SIZE), atol=2e-5, rtol=0
    )


def test_gradients_of_the_reference_pass_gradcheck():
    """No sample lies on a texel, where a bilinear interpolation has a kink."""
    texture = random_texture(4, 5).double()
    mesh = shifted(torch.tensor([[[2.3, 2.4], [3.15, 2.7]]]).double(), texture)
    nodes = mesh.nodes.double() * 1.01

    def draw(texture: Tensor, position: Tensor, nodes: Tensor) -> Tensor:
        return expose_reference(texture, Mesh(position=position, nodes=nodes, half=mesh.half), (5, 6))

    parts = [part.clone().requires_grad_() for part in (texture, mesh.position, nodes)]
    assert torch.autograd.gradcheck(draw, parts, eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("expose", EXPOSURES)
@pytest.mark.parametrize("step", [(0.0, 0.0), (1.37, 0.0), (-0.61, 0.77)])
def test_motion_keeps_the_light(expose, step):
    """Every texel shares its light among pixels: a layer inside the frame gives its sum, however it moves."""
    texture = random_texture()
    exposure = expose(texture, shifted(line((15.2, 9.1), step, 6), texture, mesh_size=(3, 3)), SIZE)
    torch.testing.assert_close(exposure[0].sum((1, 2)), texture.sum((1, 2)), atol=0, rtol=1e-5)


def test_seams_of_the_mesh_count_once():
    """Columns of nodes that fall on whole pixels, at 49 places."""
    texture = random_texture(8, 21)
    mesh = shifted(line((16.0, 10.0), (1.0, 0.0), 49).movedim(1, 0), texture, mesh_size=(2, 7))
    light = expose_layer(texture, mesh, (20, 80)).sum((2, 3))
    torch.testing.assert_close(light, texture.sum((1, 2)).expand(49, 4), atol=0, rtol=1e-5)


@pytest.mark.parametrize("expose", EXPOSURES)
@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_a_dot_in_steady_motion_is_an_even_streak(expose, fraction):
    """8 px in equal steps: 1/8 of the light in each, the pixels at the ends share one."""
    texture = torch.zeros(4, 3, 3)
    texture[:, 1, 1] = 1
    streak = expose(texture, shifted(line((10 + fraction, 9.0), (1.0, 0.0), 8), texture), SIZE)[0, 3]
    expected = torch.zeros(SIZE)
    expected[9, 10:18] += (1 - fraction) / 8
    expected[9, 11:19] += fraction / 8
    torch.testing.assert_close(streak, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("expose", EXPOSURES)
def test_an_exposure_is_the_mean_of_its_halves(expose):
    texture = random_texture()
    mesh = bent(line((8.2, 7.3), (1.1, 0.4), 8), texture)
    halves = Mesh(position=mesh.position.view(2, 4, 2), nodes=mesh.nodes.view(2, 4, 3, 4, 2), half=mesh.half)
    whole = expose(texture, mesh, SIZE)[0]
    torch.testing.assert_close(whole, expose(texture, halves, SIZE).mean(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("expose", EXPOSURES)
def test_a_shift_by_whole_pixels_shifts_the_exposure(expose):
    texture = random_texture()
    mesh = bent(line((10.25, 8.5), (0.75, 0.25), 5), texture)
    moved = Mesh(position=mesh.position + torch.tensor([4.0, 2.0]), nodes=mesh.nodes, half=mesh.half)
    first, second = expose(texture, mesh, SIZE), expose(texture, moved, SIZE)
    torch.testing.assert_close(second, first.roll((2, 4), (2, 3)), atol=2e-6, rtol=0)


@pytest.mark.parametrize("expose", EXPOSURES)
def test_without_motion_an_exposure_is_the_texture(expose):
    texture = random_texture()
    exposure = expose(texture, shifted(line((15.0, 9.0), (0.0, 0.0), 3), texture), SIZE)[0]
    expected = torch.zeros(4, *SIZE)
    expected[:, 6:13, 11:20] = texture
    torch.testing.assert_close(exposure, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("expose", EXPOSURES)
def test_time_reversed_motion_gives_the_same_exposure(expose):
    texture = random_texture()
    mesh = bent(line((8.2, 7.3), (1.3, -0.2), 7), texture)
    back = Mesh(position=mesh.position.flip(1), nodes=mesh.nodes.flip(1), half=mesh.half)
    torch.testing.assert_close(expose(texture, mesh, SIZE), expose(texture, back, SIZE), atol=1e-6, rtol=0)


def test_a_turn_by_a_right_angle_turns_the_exposure():
    """Coordinates of nodes that turn: what lay to the right lies below."""
    texture = random_texture(9, 9)
    straight = shifted(torch.tensor([[[15.0, 9.0]]]), texture)
    angle = math.pi / 2
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    nodes = (straight.nodes - 4) @ turn.T + 4
    turned = expose_layer(texture, Mesh(position=straight.position, nodes=nodes, half=straight.half), SIZE)
    upright = expose_layer(texture, straight, SIZE)
    around = slice(5, 14), slice(11, 20)
    torch.testing.assert_close(
        turned[0][:, *around], upright[0][:, *around].rot90(-1, (1, 2)), atol=1e-5, rtol=0
    )
