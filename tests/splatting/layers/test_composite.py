"""The layer at the middle of each exposure, put into the recorded frame."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from freezeframe.splatting.layers.composite import composite
from freezeframe.splatting.layers.fit import time_offsets
from freezeframe.splatting.layers.layer import Crops, over_background

from .drawn_disc import film_disc, fitted_disc


@torch.no_grad()
def recorded_by_the_layer() -> tuple[Crops, Tensor]:
    """Crops that show the fitted layer itself, and how it looked at the middle of each exposure."""
    layer, crops = fitted_disc(), film_disc().crops
    frames = range(len(crops.images))
    blurred = layer.exposures(crops, frames, time_offsets(layer, crops))
    sharp = layer.exposures(crops, frames, torch.zeros(1))
    images = over_background(blurred, crops.background)
    return replace(crops, images=images), over_background(sharp, crops.background)


def test_frames_outside_the_layer_stay_as_they_were():
    """Bit by bit."""
    crops = film_disc().crops
    frames = composite(fitted_disc(), crops)
    outside = (frames.coverage == 0)[:, None].expand_as(crops.images)
    assert 0.5 < outside.float().mean() < 1
    assert torch.equal(frames.images[outside], crops.images[outside])


def test_what_else_was_recorded_stays_as_it_was():
    """Bit by bit, where a frame shows what the background does not."""
    crops = film_disc().crops
    other = torch.rand(crops.images.shape, generator=torch.Generator().manual_seed(3))
    frames = composite(fitted_disc(), replace(crops, images=other))
    outside = (frames.coverage == 0)[:, None].expand_as(other)
    torch.testing.assert_close(frames.images[outside], other[outside], atol=2e-7, rtol=0)
    assert torch.equal(frames.images[outside], other[outside])


def test_a_right_fit_explains_the_frames_and_the_background_does_not():
    frames = composite(fitted_disc(), film_disc().crops)
    assert (frames.residual < 0.15 * frames.absent).all()


def test_frames_recorded_by_the_layer_become_its_middles():
    crops, sharp = recorded_by_the_layer()
    frames = composite(fitted_disc(), crops)
    torch.testing.assert_close(frames.images, sharp, atol=1e-6, rtol=0)
    assert float(frames.residual.max()) < 1e-6


def test_grain_stays_beside_the_layer_and_goes_under_it():
    """All of it where the layer covers less than a hundredth of the exposure, none from a third on."""
    crops, _ = recorded_by_the_layer()
    grain = 0.02 * torch.randn(crops.images.shape, generator=torch.Generator().manual_seed(5))
    clean, grainy = (
        composite(fitted_disc(), replace(crops, images=images))
        for images in (crops.images, crops.images + grain)
    )
    left = grainy.images - clean.images
    faint = ((clean.coverage > 0) & (clean.coverage < 0.01))[:, None].expand_as(left)
    covered = (clean.coverage > 1 / 3)[:, None].expand_as(left)
    assert faint.sum() > 500
    # The share that is left falls by no more than a tenth in the first hundredth.
    assert float((left - grain)[faint].abs().max()) < 0.1 * float(grain.abs().max())
    assert float(left[covered].abs().max()) == 0


def test_coverage_is_that_of_the_exposure_and_of_its_middle():
    """The drawn disc covers what the fit says, on average to a twentieth."""
    disc = film_disc()
    coverage = composite(fitted_disc(), disc.crops).coverage
    assert 0 <= coverage.min() <= coverage.max() <= 1 + 1e-5
    swept = disc.coverage > 0.5
    assert float((coverage - disc.coverage)[swept].clamp_max(0).mean()) > -0.05


def test_pixels_of_unknown_light_do_not_count():
    """A frame that is spoilt where its weight is 0 has the same residual."""
    crops = film_disc().crops
    spoilt, weight = crops.images.clone(), crops.weight.clone()
    spoilt[:, :, 20:30], weight[:, 20:30] = 1.0, 0.0
    known, wrong = (
        composite(fitted_disc(), replace(crops, images=images, weight=weight))
        for images in (crops.images, spoilt)
    )
    assert torch.equal(known.residual, wrong.residual)
    assert torch.equal(known.absent, wrong.absent)
