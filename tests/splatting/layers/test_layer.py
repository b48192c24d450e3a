"""A layer's path and texture, seen through its exposures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from freezeframe.splatting.layers.layer import Crops, Layer, over_background

SIZE = (48, 64)


def empty_crops(times: Tensor, *, downscale: int = 1, origin: tuple[float, float] = (0, 0)) -> Crops:
    """Crops of nothing, for their geometry."""
    images = torch.zeros(len(times), 3, SIZE[0] // downscale, SIZE[1] // downscale)
    return Crops(
        images=images, background=images, weight=torch.ones_like(images[:, 0]),
        origin=torch.tensor(origin).float().expand(len(times), 2), times=times,
    )  # fmt: skip


def disc_layer(position: Tensor, *, side: int = 18, downscale: int = 1, shutter: float = 0.5) -> Layer:
    """A disc of one colour with a soft edge, a third of the texture's side in radius."""
    y = torch.arange(side) - (side - 1) / 2
    alpha = 2 * (side / 3 - torch.hypot(y[:, None], y[None])).clamp(-4, 4)
    logits = torch.cat([torch.tensor([0.4, -0.3, 1.2])[:, None, None].expand(-1, side, side), alpha[None]])
    return Layer(logits, position, mesh_size=(3, 3), shutter=shutter, downscale=downscale)


def at_middle(layer: Layer, crops: Crops) -> Tensor:
    """[T, 4, H, W] at the middles of the exposures."""
    return layer.exposures(crops, range(len(crops.times)), torch.zeros(1)).detach()


def centres(alpha: Tensor) -> Tensor:
    """[M, 2] centre of mass (x, y) of [M, H, W]."""
    y, x = (torch.arange(count).float() for count in alpha.shape[1:])
    light = alpha.sum((1, 2))
    return torch.stack([(alpha.sum(1) * x).sum(1), (alpha.sum(2) * y).sum(1)], -1) / light[:, None]


@pytest.mark.parametrize(("downscale", "other"), [(2, 1), (4, 1), (1, 2)])
def test_a_resized_layer_keeps_its_colours_and_path(downscale, other):
    times = torch.arange(4.0)
    layer = disc_layer(torch.tensor([[20.0, 20], [25, 21], [29, 26], [40, 30]]), downscale=downscale)
    for parameter in (layer.rotation, layer.log_scale, layer.deformation):
        parameter.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    resized = layer.resize(other)
    assert resized.downscale == other
    torch.testing.assert_close(
        resized.colour_and_alpha()[0].mean((1, 2)), layer.colour_and_alpha()[0].mean((1, 2))
    )
    for name in ("position", "rotation", "log_scale", "deformation", "shutter"):
        torch.testing.assert_close(getattr(resized, name), getattr(layer, name))
    assert resized.blur_length(times) == pytest.approx(layer.blur_length(times))


def test_a_resized_layer_covers_the_same_area():
    """In pixels of a frame, to a twentieth: the radius is right to 1/40."""
    position = torch.tensor([[32.0, 24.0]])
    layer = disc_layer(position, side=12, downscale=2)
    areas = [
        float(at_middle(each, empty_crops(torch.zeros(1), downscale=each.downscale))[0, 3].sum())
        * each.downscale**2
        for each in (layer, layer.resize(1))
    ]
    assert areas[1] == pytest.approx(areas[0], rel=0.05)


def test_a_path_through_positions_on_a_line_is_that_line():
    """At all times of the exposures, those before the first frame and after the last too."""
    times = torch.tensor([0.0, 1, 2.5, 3])
    start, velocity = torch.tensor([18.0, 20.0]), torch.tensor([8.0, 2.5])
    layer = disc_layer(start + times[:, None] * velocity, shutter=0.8)
    crops = empty_crops(times)
    for offset in torch.linspace(-0.5, 0.5, 5):
        exposures = layer.exposures(crops, range(4), offset[None]).detach()
        expected = start + (times + 0.8 * offset)[:, None] * velocity
        # A bilinear sample keeps the centre of mass; float32 does to a thousandth of a pixel.
        torch.testing.assert_close(centres(exposures[:, 3]), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("downscale", [1, 2, 4])
@pytest.mark.parametrize("origin", [(0.0, 0.0), (-8.0, 4.0)])
def test_a_layer_lies_where_its_position_is_in_the_frame(downscale, origin):
    """The first pixel of a crop at 1 / s is the mean of s pixels: its middle is (s - 1) / 2 further."""
    position = torch.tensor([[27.3, 24.6]])
    layer = disc_layer(position, side=8, downscale=downscale)
    crops = empty_crops(torch.zeros(1), downscale=downscale, origin=origin)
    centre = centres(at_middle(layer, crops)[:, 3])
    in_frame = centre * downscale + (downscale - 1) / 2 + torch.tensor(origin)
    torch.testing.assert_close(in_frame, position, atol=2e-3, rtol=0)


@pytest.mark.parametrize("shutter", [0.25, 0.8])
@pytest.mark.parametrize("downscale", [1, 2])
def test_blur_is_as_long_as_speed_times_shutter(shutter, downscale):
    """In pixels of a frame at every resolution; 3-4-5: (6, 8) px a frame are 10."""
    times = torch.arange(5.0)
    layer = disc_layer(times[:, None] * torch.tensor([6.0, 8.0]), shutter=shutter, downscale=downscale)
    assert layer.blur_length(times) == pytest.approx(10 * shutter, abs=1e-3)


@pytest.mark.parametrize(("angle", "log_scale"), [(0.5, 0.0), (-0.3, 0.1), (0.0, -0.2)])
def test_turn_and_scale_are_a_similarity(angle, log_scale):
    """Second implementation: a pixel reads the texture where it lies when turned and scaled back."""
    side, centre = 15, (31.2, 22.7)
    rng = torch.Generator().manual_seed(0)
    layer = disc_layer(torch.tensor([centre]), side=side)
    layer.texture_logits.data[:, 4:-4, 4:-4] += torch.randn(4, side - 8, side - 8, generator=rng)
    layer.texture_logits.data[3, :3], layer.texture_logits.data[3, -3:] = -20, -20
    layer.texture_logits.data[3, :, :3], layer.texture_logits.data[3, :, -3:] = -20, -20
    layer.rotation.data.fill_(angle)
    layer.log_scale.data.fill_(log_scale)
    actual = at_middle(layer, empty_crops(torch.zeros(1)))[0, 3].numpy()
    alpha = layer.colour_and_alpha()[1][0].detach().double().numpy()
    expected = np.zeros(SIZE)
    for y, x in np.ndindex(*SIZE):
        turned = (x - centre[0] + 1j * (y - centre[1])) * np.exp(-1j * angle - log_scale)
        u, v = turned.real + (side - 1) / 2, turned.imag + (side - 1) / 2
        i, j = math.floor(u), math.floor(v)
        if 0 <= i < side - 1 and 0 <= j < side - 1:
            weights = np.outer([1 - v + j, v - j], [1 - u + i, u - i])
            expected[y, x] = (weights * alpha[j : j + 2, i : i + 2]).sum()
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_a_long_layer_that_turns_keeps_its_light():
    """To a hundredth: a bilinear sample of a turned grid keeps the sum only nearly."""
    layer = Layer(
        torch.full((4, 8, 40), 8.0), torch.tensor([[32.0, 24.0]]), mesh_size=(3, 3), shutter=0.5, downscale=1
    )
    crops = empty_crops(torch.zeros(1))
    straight = at_middle(layer, crops).sum()
    layer.rotation.data.fill_(0.4)
    torch.testing.assert_close(at_middle(layer, crops).sum(), straight, atol=0, rtol=0.01)


def test_half_the_resolution_sees_the_mean_of_four_pixels():
    """A layer with texels of two pixels and its frame at full size: the same light within 0.02."""
    position = torch.tensor([[30.5, 24.5]])
    coarse = disc_layer(position, side=12, downscale=2)
    fine = disc_layer(position, side=24)
    # The soft edge of the coarse disc is two texels wide, in pixels twice that of the fine one.
    fine.texture_logits.data[3] /= 2
    seen = avg_pool2d(at_middle(fine, empty_crops(torch.zeros(1))), 2)
    drawn = at_middle(coarse, empty_crops(torch.zeros(1), downscale=2))
    assert float((seen - drawn).abs().mean()) < 0.02
    assert float(drawn[:, 3].sum()) == pytest.approx(float(seen[:, 3].sum()), rel=0.05)


def test_an_opaque_layer_hides_the_background_and_none_shows_it():
    background = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    light = torch.full((1, 3, 4, 4), 0.7)
    opaque, none = torch.cat([light, torch.ones(1, 1, 4, 4)], 1), torch.zeros(1, 4, 4, 4)
    assert torch.equal(over_background(opaque, background), light)
    assert torch.equal(over_background(none, background), background)
