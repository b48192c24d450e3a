from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.motion.flow.interpolation import cubic_weights, pixel_grid, sample
from freezeframe.motion.flow.warp import invert, warp

METHODS = ["catmull-rom", "bilinear"]


@pytest.mark.parametrize("method", METHODS)
def test_reads_at_whole_pixels_are_exact(method):
    image = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    x, y = pixel_grid(image)
    torch.testing.assert_close(sample(image, x, y, method=method), image, atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_beyond_the_border_the_border_repeats(method):
    image = torch.rand(1, 5, 7)
    x, y = torch.tensor([[-4.0, 30.0]]), torch.tensor([[-2.5, 99.0]])
    expected = torch.stack((image[0, 0, 0], image[0, -1, -1]))
    torch.testing.assert_close(sample(image, x, y, method=method)[0, 0], expected)


def test_catmull_rom_reads_a_parabola_exactly():
    """The cubic of a = -0.5 reproduces second degree (Keys 1981); the error of a = -0.75 is 0.03."""
    x = torch.arange(12.0, dtype=torch.float64)
    image = (0.3 * x**2 - x).expand(6, 12)[None]
    at = torch.linspace(2, 9, 29, dtype=torch.float64)[None]
    read = sample(image, at, torch.full_like(at, 2.6))
    torch.testing.assert_close(read[0], 0.3 * at**2 - at, atol=1e-12, rtol=0)


@settings(deadline=None)  # other tests share the cores
@given(st.floats(0, 1, exclude_max=True))
def test_weights_keep_the_light(t):
    assert float(cubic_weights(torch.tensor(t, dtype=torch.float64)).sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_gradients(method):
    """Against finite differences in float64, away from the kinks of the bilinear kernel."""
    image = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    x = (torch.rand(1, 3, 4, dtype=torch.float64) * 0.8 + 1.1).requires_grad_()
    y = (torch.rand(1, 3, 4, dtype=torch.float64) * 0.8 + 2.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, u, v: sample(i, u, v, method=method), (image, x, y))


def test_catmull_rom_is_at_least_three_times_as_accurate_as_bilinear():
    """On a spot of 2 px standard deviation, moved by half a pixel: soft content, as in blurred video."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    spot = lambda cx: torch.exp(-((x - cx) ** 2 + (y - 20) ** 2) / 8)[None]  # noqa: E731
    error = {m: float((sample(spot(20.0), x + 0.5, y, method=m) - spot(19.5)).abs().max()) for m in METHODS}
    assert error["catmull-rom"] < error["bilinear"] / 3


@pytest.mark.parametrize("channels", range(1, 7))
def test_opencv_agrees_with_the_differentiable_implementation(channels):
    """Two implementations of the bilinear warp, OpenCV's and torch's, to single precision."""
    image, uv = torch.rand(channels, 30, 40), torch.randn(2, 30, 40) * 6
    opencv = warp(image, uv)
    differentiable = warp(image.clone().requires_grad_(), uv)
    torch.testing.assert_close(opencv, differentiable.detach(), atol=1e-5, rtol=0)


def test_warp_samples_the_image_at_the_end_of_the_flow():
    """With a flow of +3 in x, the point at x = 10 is warped to x = 7."""
    image = torch.zeros(1, 9, 20)
    image[0, 4, 10] = 1
    warped = warp(image, torch.tensor([3.0, 0.0]).reshape(2, 1, 1).expand(2, 9, 20))
    assert warped[0, 4].argmax() == 7


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 1.5), st.floats(10, 20))
def test_a_flow_composed_with_its_inverse_is_zero(height, period):
    """To 0.05 px inside: the inverse is interpolated bilinearly."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    frequency = 2 * math.pi / (period * 3)
    uv = torch.stack((height * torch.sin(frequency * y), height * torch.cos(frequency * x)))
    inverse = invert(uv)
    residual = (uv + warp(inverse, uv))[:, 6:-6, 6:-6]
    assert float(residual.abs().max()) < 0.05
