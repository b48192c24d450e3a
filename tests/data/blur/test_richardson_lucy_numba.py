from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from freezeframe.data.blur.operator import blur, blur_adjoint, repeated, shared, within
from freezeframe.data.blur.richardson_lucy_numba import MARGIN, STRIP, Witness, counts, sheet

FLOATS = 1e-4  # of ratios near 1, summed over a few dozen taps at places known to 4e-6 px


def scene(height: int, width: int, *, reach: float, seed: int) -> tuple[Tensor, ...]:
    """Light, estimate, belief, ways and offsets, uneven everywhere."""
    rng = torch.Generator().manual_seed(seed)
    light, estimate = (0.2 + torch.rand(3, height, width, generator=rng) for _ in range(2))
    belief = (2 * torch.rand(height, width, generator=rng) - 0.5).clamp(0, 1)
    way, offset = (reach * (2 * torch.rand(2, height, width, generator=rng) - 1) for _ in range(2))
    # Means of sixteen are short: longer again, and across the whole picture.
    bend = reach * (2 * torch.rand(2, 1, 1, generator=rng) - 1)
    return light, estimate, belief, way + bend, offset - bend / 2


def handed_back(
    light: Tensor,
    estimate: Tensor,
    belief: Tensor,
    way: Tensor,
    offset: Tensor,
    wanted: Tensor | None = None,
) -> Tensor:
    """[4, H, W]: what the kernel hands back, the adjoint of the belief last."""
    _, height, width = light.shape
    sharp, gathered = sheet(height, width, value=1.0), sheet(height, width, value=0.0)
    inner = (slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width))
    sharp[(*inner, slice(3))] = estimate.permute(1, 2, 0).numpy()
    Witness(
        light, belief, way=way, offset=offset, wanted=None if wanted is None else counts(wanted)
    ).hand_back(sharp, gathered)
    return torch.from_numpy(np.ascontiguousarray(gathered[inner].transpose(2, 0, 1)))


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (70, 21), (5, 64), (21, 4 * STRIP + 30)])
@pytest.mark.parametrize("reach", [0.5, 4.0, 12.0])
def test_one_pass_is_blur_compare_and_adjoint(height, width, reach):
    """In three steps, by the general operators; sizes that no block divides among them."""
    light, estimate, belief, way, offset = scene(height, width, reach=reach, seed=height)
    found = handed_back(light, estimate, belief, way, offset)
    size = light.shape[1:]
    way, offset = repeated(shared(way), size), repeated(shared(offset), size)
    seen = torch.where(belief > 1e-3, belief, 0.0) * within(way, offset=offset)
    ratio = torch.cat([light / blur(estimate, way, offset=offset), torch.ones(1, *size)])
    torch.testing.assert_close(
        found, blur_adjoint((seen * ratio).contiguous(), way, offset=offset), atol=FLOATS, rtol=FLOATS
    )


def test_what_rests_hands_back_its_belief():
    """To the last row and column: nothing of it lies beyond."""
    light, estimate, belief, way, _ = scene(21, 30, reach=1.0, seed=3)
    belief = belief.clamp_min(0.1)
    nothing = torch.zeros_like(way)
    torch.testing.assert_close(handed_back(light, estimate, belief, nothing, nothing)[3], belief)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 47)])
@pytest.mark.parametrize("reach", [0.5, 12.0])
def test_what_nobody_wants_is_passed_over_and_the_rest_is_the_same(height, width, reach):
    parts = scene(height, width, reach=reach, seed=width)
    wanted = torch.zeros(height, width, dtype=torch.bool)
    wanted[10:20, 30:40] = True
    whole, asked, nothing = (
        handed_back(*parts, wanted=part) for part in (None, wanted, torch.zeros_like(wanted))
    )
    torch.testing.assert_close(asked[:, wanted], whole[:, wanted])
    assert asked.count_nonzero() < whole.count_nonzero()
    assert nothing.count_nonzero() == 0
    assert counts(torch.ones_like(wanted)) is None


@pytest.mark.parametrize("swing", [0.0, 30.0, 200.0])
def test_bands_that_meet_lose_no_light(swing):
    """Rows whose light crosses that of other rows, as where two things pass one another, up and down.

    What is believed is handed back whole, however far, so that no two threads can have written at once.
    """
    height, width = 256, 64
    light, estimate, _, way, _ = scene(height, width, reach=3.0, seed=1)
    offset = torch.zeros(2, height, width)
    offset[1] = swing * torch.where(torch.arange(width) < 32, 1.0, -1.0)
    found = handed_back(light, estimate, torch.ones(height, width), way, offset)
    inside = within(repeated(shared(way), (height, width)), offset=offset)
    assert float(found[3].sum()) == pytest.approx(float(inside.sum()), rel=1e-4)
    again = handed_back(light, estimate, torch.ones(height, width), way, offset)
    assert torch.equal(found, again), "on any number of threads, the same sums"


def test_shared_vectors_are_means_of_their_blocks():
    field = torch.arange(2 * 6 * 9, dtype=torch.float32).view(2, 6, 9)
    blocks = shared(field)
    assert blocks.shape == (2, 2, 3)
    assert float(blocks[0, 0, 1]) == float(field[0, :4, 4:8].mean())
    # What is left over at the border is a block of its own.
    assert float(blocks[1, 1, 2]) == float(field[1, 4:, 8:].mean())
    assert torch.equal(shared(repeated(blocks, (6, 9))), blocks)
