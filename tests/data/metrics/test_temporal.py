"""Figures of motion on scenes whose motion is known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur
from freezeframe.data.metrics.aligned import align_to_truth, aligned_psnr_ssim
from freezeframe.data.metrics.image import linear_to_srgb, psnr_srgb, sharpness, ssim_srgb
from freezeframe.data.metrics.temporal import reblur_consistency, srgb_to_linear, tof, warp, warping_error
from freezeframe.data.types import Flow

SIZE = (48, 64)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """[H + 32, W + 32, 3] uint8: soft blobs of all sizes."""
    import cv2

    rng = np.random.default_rng(4)
    layers = [
        cv2.resize(rng.random((96 // k, 112 // k, 3)), (112, 96), interpolation=cv2.INTER_CUBIC)
        for k in (4, 8, 16)
    ]
    return (np.clip(np.mean(layers, axis=0), 0, 1) * 255).astype(np.uint8)


def view(wide: np.ndarray, dx: int, dy: int = 0) -> np.ndarray:
    """[H, W, 3] what a camera sees that moved by (dx, dy)."""
    return np.ascontiguousarray(wide[16 + dy : 16 + dy + SIZE[0], 16 + dx : 16 + dx + SIZE[1]])


def pan(dx: float, dy: float = 0.0) -> Flow:
    uv = torch.tensor([float(dx), float(dy)]).view(2, 1, 1).expand(2, *SIZE).contiguous()
    return Flow(uv=uv, confidence=torch.ones(SIZE))


def known(flow: Flow, _source: Tensor, _target: Tensor) -> Flow:
    return flow


def test_the_same_motion_is_no_difference_and_another_differs_by_its_pixels() -> None:
    """(3, -1) instead of (1, 1) is wrong by two pixels each way: four in all."""
    pair = torch.zeros(3, *SIZE), torch.zeros(3, *SIZE)
    assert tof(pair, pan(1, 1), flow=partial(known, pan(1, 1))) == 0
    assert tof(pair, pan(1, 1), flow=partial(known, pan(3, -1))) == pytest.approx(4)


def test_a_pan_that_the_flow_knows_has_no_warping_error(wide: np.ndarray) -> None:
    """The camera moves right by 5 px: what the first frame shows, the second shows 5 px further left."""
    pair = srgb_to_linear(view(wide, 0)), srgb_to_linear(view(wide, 5))
    assert warping_error(pair, pan(-5)) < 1e-9
    assert warping_error(pair, pan(5)) > 1e-3


def test_warping_error_counts_only_where_flow_is_trusted(wide: np.ndarray) -> None:
    """Half of the frame blinks by a known step, and the flow distrusts that half."""
    first = srgb_to_linear(view(wide, 0))
    second = first.clone()
    second[:, : SIZE[0] // 2] = 1 - second[:, : SIZE[0] // 2]
    still = pan(0)
    confidence = still.confidence.clone()
    confidence[: SIZE[0] // 2] = 0
    assert warping_error((first, second), Flow(uv=still.uv, confidence=confidence)) == 0
    assert warping_error((first, second), still) > 1e-3


def test_laying_on_by_whole_pixels_copies_them(wide: np.ndarray) -> None:
    image = srgb_to_linear(view(wide, 0))
    moved = warp(image, pan(3, -2).uv)
    assert torch.equal(moved[:, 2:, :-3], image[:, :-2, 3:])


def test_the_truth_blurs_back_to_the_input(wide: np.ndarray) -> None:
    """To the rounding of 8 bits (over 50 dB); another direction does not explain it."""
    truth, blur_vector = srgb_to_linear(view(wide, 0)), pan(9).uv
    blurred = srgb_to_linear(linear_to_srgb(blur(truth, blur_vector)))
    assert reblur_consistency(truth, blurred, blur_vector) > 50
    assert (
        reblur_consistency(truth, blurred, blur_vector)
        > reblur_consistency(blurred, blurred, blur_vector) + 6
    )
    assert reblur_consistency(truth, blurred, blur_vector.flip(0)) < 45


def test_sharpness_is_the_slope_of_a_ramp() -> None:
    """A ramp of 4 codes per pixel; its last and first columns, where the border repeats, are flatter."""
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    assert sharpness(ramp) == pytest.approx(4, rel=0.02)
    assert sharpness(ramp.transpose(1, 0, 2).copy()) == pytest.approx(4, rel=0.02)


def test_blur_lowers_sharpness(wide: np.ndarray) -> None:
    codes = view(wide, 0)
    assert sharpness(linear_to_srgb(blur(srgb_to_linear(codes), pan(9).uv))) < 0.9 * sharpness(codes)


def test_light_and_codes_are_each_others_inverse(wide: np.ndarray) -> None:
    assert np.array_equal(linear_to_srgb(srgb_to_linear(wide)), wide)


def test_alignment_undoes_a_shift_and_a_dimming(wide: np.ndarray) -> None:
    """Two cameras, 2 px apart, one a tenth darker: as they are 25 dB at best, aligned over 38 dB."""
    truth = view(wide, 0)
    image = (view(wide, 2, -1) * 0.9).astype(np.uint8)
    assert psnr_srgb(image, truth) < 25
    decibel, similarity = aligned_psnr_ssim(image, truth)
    assert decibel > 38
    assert similarity > 0.98 > ssim_srgb(image, truth)
    _, valid = align_to_truth(image, truth)
    assert 0.9 < valid.mean() < 1, "a strip that only one camera saw does not count"


def test_alignment_leaves_an_aligned_picture_alone(wide: np.ndarray) -> None:
    """But for what noise makes of the homography: half a decibel in so small a picture."""
    noise = np.random.default_rng(1).normal(0, 4, (*SIZE, 3))
    truth = view(wide, 0)
    image = np.clip(truth + noise, 0, 255).astype(np.uint8)
    decibel, similarity = aligned_psnr_ssim(image, truth)
    assert decibel == pytest.approx(psnr_srgb(image, truth), abs=0.5)
    assert similarity == pytest.approx(ssim_srgb(image, truth), abs=0.02)


def test_nothing_to_align_by_is_compared_as_it_is() -> None:
    flat = np.full((*SIZE, 3), 100, np.uint8)
    assert aligned_psnr_ssim(flat, flat) == (float("inf"), pytest.approx(1))
