from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError
from freezeframe.models.imageops.tiling import (
    SMALLEST_TILE,
    blend_weights,
    pad_replicate,
    tile_ranges,
    tiled_inference,
)
from freezeframe.models.nets.nafnet import NAFNet, NetConfig


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def conv_net(layers: int) -> nn.Sequential:
    """Receptive field of radius `layers` pixels. A gain of 1.5 per layer does not damp border effects."""
    generator = torch.Generator().manual_seed(1)
    channels = [3, *[8] * (layers - 1), 3]
    parts: list[nn.Module] = []
    for before, after in pairwise(channels):
        conv = nn.Conv2d(before, after, 3, padding=1).requires_grad_(False)
        conv.weight.copy_(1.5 * torch.randn(conv.weight.shape, generator=generator) / (9 * before) ** 0.5)
        parts += [conv, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


sides = st.integers(1, 300)
tiles = st.integers(8, 96)


@given(length=sides, tile=tiles, overlap=st.integers(0, 48), multiple=st.sampled_from([1, 2, 8]))
def test_tiles_cover_the_side_and_fades_add_up_to_one_exactly(length, tile, overlap, multiple):
    overlap = min(overlap, tile // 2)
    parts = tile_ranges(length, tile=tile, overlap=overlap, multiple=multiple)
    total = torch.zeros(length)
    for (start, stop), fade in zip(parts, blend_weights(parts), strict=True):
        assert start % multiple == 0
        assert 0 < stop - start <= tile
        assert fade.min() >= 0
        total[start:stop] += fade
    assert torch.equal(total, torch.ones(length)), "to the last bit"


@given(length=st.integers(1, 2000), tile=st.integers(32, 96), overlap=st.integers(0, 24))
def test_neighbours_share_the_overlap_and_ignore_its_outer_quarters(length, tile, overlap):
    overlap = min(overlap, tile // 2 - 4)
    parts = tile_ranges(length, tile=tile, overlap=overlap, multiple=4)
    assert parts[0][0] == 0
    assert parts[-1][1] == length
    weights = blend_weights(parts)
    for (before, after), (fading, rising) in zip(pairwise(parts), pairwise(weights), strict=True):
        assert before[1] - after[0] >= overlap - overlap % 4
        blind = (overlap - overlap % 4) // 4
        assert not fading[len(fading) - blind :].any()
        assert not rising[:blind].any()


def test_a_long_side_takes_no_more_tiles_than_it_needs():
    assert tile_ranges(1000, tile=400, overlap=100) == [(0, 400), (300, 700), (600, 1000)]
    assert len(tile_ranges(1001, tile=400, overlap=100)) == 4
    assert tile_ranges(400, tile=400, overlap=100) == [(0, 400)]
    assert tile_ranges(7, tile=400, overlap=100) == [(0, 7)]


@pytest.mark.parametrize("size", [(97, 131), (64, 64), (200, 33), (20, 5), (1, 1)], ids=str)
def test_tiled_is_untiled_where_the_restorer_looks_a_quarter_of_the_overlap_far(size):
    network, image = conv_net(layers=4), noise(*size)
    whole = network(image)
    tiled = tiled_inference(network, image, tile=48, overlap=16)
    # Another order of float32 sums of values near 1.
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


def test_tiled_is_untiled_within_one_step_where_the_restorer_looks_half_the_overlap_far():
    """Only the corner of the receptive field is cut off, where the blend weight is low."""
    network, image = conv_net(layers=12), noise(168, 168)  # 72 + 48 + 48: tiles share just the overlap

    def restorer(part: Tensor) -> Tensor:
        return part + 0.1 * network(part)

    whole = restorer(image)
    assert (whole - image).abs().max() > 0.1, "as much as a restorer changes at an edge"
    feathered = tiled_inference(restorer, image, tile=72, overlap=24)
    assert (feathered - whole).abs().max() < 1 / 255
    abutting = tiled_inference(restorer, image, tile=56, overlap=0)
    assert (abutting - whole).abs().max() > 10 / 255, "the net must see far, or nothing is tested"


@pytest.mark.parametrize("size", [(90, 121), (64, 96), (17, 40)], ids=str)
def test_a_network_that_halves_the_picture_pairs_the_same_pixels_in_every_tile(size):
    """A tile from an odd pixel would be downsampled, and so restored, differently."""
    network = NAFNet(NetConfig(width=4, encoders=(1,), middle=0, decoders=(0,)), window=2)
    generator = torch.Generator().manual_seed(2)
    for value in network.requires_grad_(False).parameters():
        value.copy_(0.2 * torch.randn(value.shape, generator=generator))
    image = noise(*size)
    tiled = tiled_inference(network, image, tile=48, overlap=24, multiple=2)
    torch.testing.assert_close(tiled, network(image), atol=1e-5, rtol=0)


@given(height=sides, width=sides, overlap=st.integers(1, 20))
def test_the_weights_of_all_tiles_add_up_to_one_exactly(height, width, overlap):
    """Where four tiles meet, four products of two weights add up exactly as well."""
    ones = torch.ones(1, 3, height, width)
    assert torch.equal(tiled_inference(torch.clone, ones, tile=40, overlap=overlap), ones)


def test_what_every_tile_says_alike_is_kept():
    """Convex weights: a restorer that is the identity on tiles is the identity on the image."""
    image = noise(77, 143)
    # w v + (1 - w) v rounds twice.
    torch.testing.assert_close(
        tiled_inference(torch.clone, image, tile=40, overlap=13), image, atol=2e-7, rtol=0
    )


def test_a_seam_between_tiles_that_disagree_is_a_ramp():
    """Tiles alternate between black and white; the steepest step of a raised cosine over 32 px is pi/64."""
    answers = iter([0.0, 1.0, 0.0])
    image = noise(16, 170 + 106 + 106)
    out = tiled_inference(lambda part: torch.full_like(part, next(answers)), image, tile=170, overlap=64)
    steps = out.diff(dim=-1).abs()
    assert out.min() == 0
    assert out.max() == 1
    assert steps.max() < torch.pi / 64 + 1 / 4096


class SmallMemory:
    """A device with memory for `pixels` only."""

    def __init__(self, pixels: int, error: Exception) -> None:
        self.pixels = pixels
        self.error = error
        self.sides_run: list[int] = []

    def __call__(self, part: Tensor, /) -> Tensor:
        self.sides_run.append(max(part.shape[-2:]))
        if part.shape[-1] * part.shape[-2] > self.pixels:
            raise self.error
        return 1 - part


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_tile_that_does_not_fit_is_halved_until_it_does(error):
    image, device = noise(200, 300), SmallMemory(90 * 90, error)
    out = tiled_inference(device, image, tile=512, overlap=32)
    torch.testing.assert_close(out, 1 - image, atol=1e-6, rtol=0)
    # The image of 300 pixels is smaller than a tile of 512.
    assert device.sides_run[:3] == [300, 150, 75]
    assert max(device.sides_run[2:]) == 75


def test_memory_too_small_for_the_smallest_tile_is_said():
    device = SmallMemory(10, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(FreezeframeError, match=f"{SMALLEST_TILE} x {SMALLEST_TILE} pixels does not fit"):
        tiled_inference(device, noise(100, 100), tile=64, overlap=16)


def test_other_failures_are_not_taken_for_lack_of_memory():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tiled_inference(
            SmallMemory(10, RuntimeError("mat1 and mat2 differ")), noise(100, 100), tile=64, overlap=16
        )


def test_a_tile_must_hold_one_cell_of_the_grid():
    with pytest.raises(ValueError, match="multiple of 32"):
        tiled_inference(torch.clone, noise(8, 8), tile=16, overlap=0, multiple=32)


@given(height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_a_picture_is_filled_up_with_its_last_row_and_column(height, width):
    picture = torch.rand(1, 2, height, width)
    whole = pad_replicate(picture, 8)
    assert not any(side % 8 for side in whole.shape[-2:])
    assert torch.equal(whole[..., :height, :width], picture)
    assert torch.equal(whole[..., -1, -1], picture[..., -1, -1])
    assert (whole is picture) == (height % 8 == width % 8 == 0)
