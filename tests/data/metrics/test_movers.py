"""The mask of movers on frames whose movers are known."""

from __future__ import annotations

import torch

from freezeframe.data.metrics.movers import mover_mask, static_background

SIZE = (40, 90)
FRAMES, SPEED, SIDE = 9, 8, 10  # of a white square that moves to the right, pixels


def wall() -> torch.Tensor:
    return 0.1 + 0.2 * torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))


def with_square(left: float) -> torch.Tensor:
    """[3, H, W] linear RGB, the square at rows 15 to 25."""
    image = wall()
    image[:, 15:25, round(left) : round(left) + SIDE] = 0.9
    return image


def clip() -> torch.Tensor:
    return torch.stack([with_square(5 + SPEED * t) for t in range(FRAMES)])


def test_the_median_over_time_shows_what_is_behind_a_mover() -> None:
    assert torch.equal(static_background(clip()), wall())


def test_the_mask_is_the_path_of_the_exposure_to_half_a_window() -> None:
    """The square sweeps columns 33 to 49 during the exposure: the mask adds two pixels, at most three."""
    blurred = torch.stack([with_square(37 + shift) for shift in range(-4, 4)]).mean(0)
    mask = mover_mask(blurred, clip()[4], wall())
    rows, columns = (mask.any(dim).nonzero().flatten() for dim in (1, 0))
    assert 12 <= int(rows.min()) <= 15
    assert 24 <= int(rows.max()) <= 27
    assert 30 <= int(columns.min()) <= 33
    assert 49 <= int(columns.max()) <= 52
    assert mask[15:25, 34:49].all()


def test_noise_and_stillness_make_no_mask() -> None:
    """Gaussian noise of 2 of 255 steps at mid-grey."""
    noise = 0.006 * torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(1))
    assert not mover_mask(wall() + noise, wall(), wall()).any()
