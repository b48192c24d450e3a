"""The blur field network: its classes have no sign, turn with the picture, and are read back exactly."""

from __future__ import annotations

import math

import pytest
import torch

from freezeframe.models.deblur.blur_field import (
    BlurFieldParams,
    estimate_blur_field,
    line_targets,
    radius_targets,
    read_blur_field,
)
from freezeframe.models.deblur.blur_field_net import NUM_LINES, RADII, BlurFieldNet
from freezeframe.models.deblur.local_cepstrum import LENGTHS, NUM_DIRECTIONS


def vectors(*, longest=LENGTHS[-1], count=200, seed=0):
    """[1, 2, count, 1] vectors of all directions."""
    random = torch.Generator().manual_seed(seed)
    angle, share = torch.rand(2, count, generator=random)
    length = LENGTHS[0] + (longest - LENGTHS[0]) * share
    return (length * torch.stack([(2 * math.pi * angle).cos(), (2 * math.pi * angle).sin()]))[
        None, :, :, None
    ]


def test_both_signs_of_a_vector_are_one_target():
    targets = line_targets(vectors())
    assert torch.allclose(line_targets(-vectors()), targets, atol=1e-5)
    assert torch.allclose(targets.sum(1), torch.ones(1, 200, 1), atol=1e-5)


def test_a_quarter_turn_of_a_vector_shifts_its_directions_by_half():
    x, y = vectors().unbind(1)
    lines, turned = (line_targets(each)[:, :-1] for each in (vectors(), torch.stack([-y, x], 1)))
    lines, turned = (each.view(1, NUM_DIRECTIONS, len(LENGTHS), -1, 1) for each in (lines, turned))
    assert torch.allclose(turned, lines.roll(NUM_DIRECTIONS // 2, 1), atol=1e-4)


def test_no_blur_is_the_last_class():
    targets = line_targets(torch.zeros(1, 2, 3, 3))
    assert torch.equal(targets[:, -1], torch.ones(1, 3, 3))


def test_targets_are_read_back_as_what_they_mean():
    truth = vectors()
    radius = torch.linspace(0, RADII[-1], 200)[None, :, None]
    field = read_blur_field(
        line_targets(truth)[0].clamp_min(1e-9).log(), radius_targets(radius)[0].clamp_min(1e-9).log()
    )
    error = torch.minimum((field.vectors - truth[0]).norm(dim=0), (field.vectors + truth[0]).norm(dim=0))
    assert float(error.max()) < 0.01 * LENGTHS[-1]
    assert bool((field.confidence > 0.99).all())
    seen = radius[0] > RADII[1]
    assert torch.allclose(field.radius[seen], radius[0][seen], atol=1e-3)


@pytest.mark.parametrize("size", [(64, 96), (75, 130)])
def test_there_is_one_vector_for_each_block_of_any_picture(size):
    torch.manual_seed(0)
    field = estimate_blur_field(BlurFieldNet().eval(), torch.rand(3, *size))
    blocks = tuple(-(-length // 4) for length in size)
    assert field.vectors.shape == (2, *blocks)
    assert field.radius.shape == field.confidence.shape == field.blurred.shape == blocks
    assert bool(((field.confidence >= 0) & (field.confidence <= 1)).all())
    assert bool((field.vectors.norm(dim=0)[field.blurred < 0.5] == 0).all())


def test_tiles_with_their_margins_see_what_the_whole_picture_does():
    torch.manual_seed(0)
    network = BlurFieldNet().eval()
    with torch.no_grad():
        network.lines.bias[-1] = -20.0  # sure of blur everywhere
    picture = torch.rand(3, 64, 416, generator=torch.Generator().manual_seed(1))
    whole = estimate_blur_field(network, picture)
    tiled = estimate_blur_field(network, picture, params=BlurFieldParams(tile_px=224, margin_px=160))
    assert torch.allclose(tiled.confidence, whole.confidence, atol=1e-3)


def test_of_a_large_picture_a_smaller_copy_is_seen():
    """Everything is twice as long in a picture of twice the size."""
    torch.manual_seed(0)
    network = BlurFieldNet().eval()
    with torch.no_grad():
        network.lines.bias[-1] = -20.0
    picture = torch.rand(3, 64, 96)
    small = estimate_blur_field(network, picture)
    twice = picture.repeat_interleave(2, 1).repeat_interleave(2, 2)
    large = estimate_blur_field(network, twice, params=BlurFieldParams(max_pixels=64 * 96))
    assert torch.equal(large.vectors[:, ::2, ::2], 2 * small.vectors)


def test_the_network_is_small_and_every_weight_learns():
    torch.manual_seed(0)
    network = BlurFieldNet()
    assert sum(p.numel() for p in network.parameters()) <= 3_000_000
    lines, cells, radii = network(torch.rand(1, 3, 64, 64))
    assert lines.shape == (1, NUM_LINES + 1, 16, 16)
    assert cells.shape == (1, NUM_LINES + 1, 2, 2)
    (lines.square().mean() + cells.square().mean() + radii.square().mean()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
