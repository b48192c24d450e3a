from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from freezeframe.data.blur.blocks import block_mean, block_upsample
from freezeframe.data.blur.operator import blur, blur_adjoint, support_mask
from freezeframe.data.blur.richardson_lucy_numba import (
    MARGIN,
    STRIP,
    ObservationKernelData,
    live_block_integral,
    make_padded,
)

FLOATS = 1e-4  # of ratios near 1, summed over a few dozen taps at positions known to 4e-6 px


def scene(height: int, width: int, *, reach: float, seed: int) -> tuple[Tensor, ...]:
    """Image, estimate, confidence, blur vectors and offsets, uneven everywhere."""
    rng = torch.Generator().manual_seed(seed)
    image, estimate = (0.2 + torch.rand(3, height, width, generator=rng) for _ in range(2))
    weight = (2 * torch.rand(height, width, generator=rng) - 0.5).clamp(0, 1)
    blur_vector, offset = (reach * (2 * torch.rand(2, height, width, generator=rng) - 1) for _ in range(2))
    # Means of sixteen random vectors are short: add a long one, common to the image.
    bend = reach * (2 * torch.rand(2, 1, 1, generator=rng) - 1)
    return image, estimate, weight, blur_vector + bend, offset - bend / 2


def backproject_once(
    image: Tensor,
    estimate: Tensor,
    weight: Tensor,
    blur_vector: Tensor,
    offset: Tensor,
    region: Tensor | None = None,
) -> Tensor:
    """[4, H, W]: the backprojected ratios, and in the last channel the adjoint of the confidence."""
    _, height, width = image.shape
    sharp, adjoint_sum = make_padded(height, width, value=1.0), make_padded(height, width, value=0.0)
    inner = (slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width))
    sharp[(*inner, slice(3))] = estimate.permute(1, 2, 0).numpy()
    ObservationKernelData(
        image,
        weight,
        blur_vector=blur_vector,
        offset=offset,
        region=None if region is None else live_block_integral(region),
    ).backproject(sharp, adjoint_sum)
    return torch.from_numpy(np.ascontiguousarray(adjoint_sum[inner].transpose(2, 0, 1)))


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (70, 21), (5, 64), (21, 4 * STRIP + 30)])
@pytest.mark.parametrize("reach", [0.5, 4.0, 12.0])
def test_one_pass_is_blur_compare_and_adjoint(height, width, reach):
    """Against the general operators in three steps, also for sizes that no block divides."""
    image, estimate, weight, blur_vector, offset = scene(height, width, reach=reach, seed=height)
    result = backproject_once(image, estimate, weight, blur_vector, offset)
    size = image.shape[1:]
    blur_vector, offset = (
        block_upsample(block_mean(blur_vector), size),
        block_upsample(block_mean(offset), size),
    )
    weight_map = torch.where(weight > 1e-3, weight, 0.0) * support_mask(blur_vector, offset=offset)
    ratio = torch.cat([image / blur(estimate, blur_vector, offset=offset), torch.ones(1, *size)])
    torch.testing.assert_close(
        result,
        blur_adjoint((weight_map * ratio).contiguous(), blur_vector, offset=offset),
        atol=FLOATS,
        rtol=FLOATS,
    )


def test_what_rests_hands_back_its_belief():
    """To the last row and column: their support lies in the image."""
    image, estimate, weight, blur_vector, _ = scene(21, 30, reach=1.0, seed=3)
    weight = weight.clamp_min(0.1)
    nothing = torch.zeros_like(blur_vector)
    torch.testing.assert_close(backproject_once(image, estimate, weight, nothing, nothing)[3], weight)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 47)])
@pytest.mark.parametrize("reach", [0.5, 12.0])
def test_what_nobody_wants_is_passed_over_and_the_rest_is_the_same(height, width, reach):
    parts = scene(height, width, reach=reach, seed=width)
    region = torch.zeros(height, width, dtype=torch.bool)
    region[10:20, 30:40] = True
    whole, masked, nothing = (
        backproject_once(*parts, region=part) for part in (None, region, torch.zeros_like(region))
    )
    torch.testing.assert_close(masked[:, region], whole[:, region])
    assert masked.count_nonzero() < whole.count_nonzero()
    assert nothing.count_nonzero() == 0
    assert live_block_integral(torch.ones_like(region)) is None


@pytest.mark.parametrize("swing", [0.0, 30.0, 200.0])
def test_bands_that_meet_lose_no_light(swing):
    """Bands whose rows write to common rows, as where two objects pass each other vertically.

    The adjoint preserves the sum of the confidence at any offset, so that no two threads can have written at
    once.
    """
    height, width = 256, 64
    image, estimate, _, blur_vector, _ = scene(height, width, reach=3.0, seed=1)
    offset = torch.zeros(2, height, width)
    offset[1] = swing * torch.where(torch.arange(width) < 32, 1.0, -1.0)
    result = backproject_once(image, estimate, torch.ones(height, width), blur_vector, offset)
    inside = support_mask(block_upsample(block_mean(blur_vector), (height, width)), offset=offset)
    assert float(result[3].sum()) == pytest.approx(float(inside.sum()), rel=1e-4)
    again = backproject_once(image, estimate, torch.ones(height, width), blur_vector, offset)
    assert torch.equal(result, again), "on any number of threads, the same sums"


def test_shared_vectors_are_means_of_their_blocks():
    field = torch.arange(2 * 6 * 9, dtype=torch.float32).view(2, 6, 9)
    blocks = block_mean(field)
    assert blocks.shape == (2, 2, 3)
    assert float(blocks[0, 0, 1]) == float(field[0, :4, 4:8].mean())
    # An incomplete block at the border has a mean of its own.
    assert float(blocks[1, 1, 2]) == float(field[1, 4:, 8:].mean())
    assert torch.equal(block_mean(block_upsample(blocks, (6, 9))), blocks)
