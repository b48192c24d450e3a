"""A drawn disc is found from its blurred frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from freezeframe.splatting.layers.composite import composite
from freezeframe.splatting.layers.fit import LayerFitConfig, fit_layer, remove_islands, shrink
from freezeframe.splatting.layers.layer import Layer

from .drawn_disc import SHUTTER, DrawnDisc, film_disc, fitted_disc, start_of, without_object


def swept_psnr(images: Tensor, disc: DrawnDisc) -> float:
    """PSNR against the sharp truth where the disc passed while the shutter was open, dB."""
    swept = (disc.coverage > 0)[:, None].expand_as(images)
    return float(-10 * torch.log10((images - disc.sharp)[swept].square().mean()))


def path_error(layer: Layer, disc: DrawnDisc) -> float:
    """Largest distance from the true path at the middle of a frame, pixels."""
    return float((layer.position.detach() - disc.position).norm(dim=1).max())


def test_the_fit_recovers_a_disc():
    """Its frames get more than 6 dB sharper, and its path is right within 0.3 px from a start 1.5 px off."""
    disc, layer = film_disc(), fitted_disc()
    assert swept_psnr(composite(layer, disc.crops).images, disc) > swept_psnr(disc.crops.images, disc) + 6
    assert path_error(layer, disc) < 0.3
    assert float(layer.shutter.detach()) == pytest.approx(SHUTTER)


def test_the_fit_recovers_an_unknown_shutter():
    """Within 0.1, from a start a third too long."""
    disc = film_disc()
    start = start_of(disc, shutter=0.8, shutter_known=False)
    layer = fit_layer(disc.crops, start, config=LayerFitConfig(steps=(60, 50)))
    assert float(layer.shutter.detach()) == pytest.approx(SHUTTER, abs=0.1)


def test_a_background_alone_gives_no_alpha():
    """Grain of 1 % of the light on a wall that shows no object."""
    disc = film_disc()
    layer = fit_layer(without_object(disc), start_of(disc), config=LayerFitConfig(steps=(20, 20)))
    alpha = layer.colour_and_alpha()[1].detach()
    assert float(alpha.max()) < 0.1
    assert float(alpha.mean()) < 0.02


@pytest.mark.slow
def test_the_default_steps_find_a_disc_and_its_shutter():
    disc = film_disc()
    layer = fit_layer(disc.crops, start_of(disc, shutter=0.8, shutter_known=False))
    assert swept_psnr(composite(layer, disc.crops).images, disc) > swept_psnr(disc.crops.images, disc) + 10
    assert path_error(layer, disc) < 0.4
    assert float(layer.shutter.detach()) == pytest.approx(SHUTTER, abs=0.04)


def test_smaller_crops_keep_their_mean():
    crops = film_disc().crops
    small = shrink(crops, 2)
    assert small.size == (30, 60)
    torch.testing.assert_close(small.images.mean((2, 3)), crops.images.mean((2, 3)))
    torch.testing.assert_close(small.background.mean((2, 3)), crops.background.mean((2, 3)))


def test_small_parts_apart_are_removed_and_the_large_one_stays():
    logits = torch.full((4, 20, 30), -6.0)
    logits[3, 4:14, 4:14] = 6.0
    logits[3, 17, 26] = 6.0
    layer = Layer(logits.clone(), torch.zeros(1, 2), mesh_size=(2, 2), shutter=0.5, downscale=1)
    remove_islands(layer)
    after = layer.texture_logits.detach()
    assert float(after[3, 17, 26]) < -10
    assert torch.equal(after[3, 3:15, 3:15], logits[3, 3:15, 3:15])
    assert torch.equal(after[:3], logits[:3])
