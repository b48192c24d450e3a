"""Alignment of the photos of a burst: sharpness, registration, exposure, agreement.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import torch
from torch import Tensor

from freezeframe.motion.camera.homography import HomographyConfig, estimate_homography, homography_to_flow
from freezeframe.motion.diagnosis.diagnose import noise_level
from freezeframe.motion.flow.consistency import in_bounds
from freezeframe.motion.flow.estimators import gamma_luma

from .blind_deconvolution import AlignedBurst


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentParams:
    """Tunables of the comparison of photos."""

    saturation: float = 0.98  # linear value from which a pixel may be clipped
    min_exposure_value: float = 0.02  # linear value from which a pixel counts in the ratio of exposures
    max_exposure_ratio: float = 2.0  # of two photos
    difference_scale: float = 0.05  # difference of square roots of linear RGB at an agreement of 1/e
    blur_sigma: float = 6.0  # pixels; smoothing before the comparison of photos of different blur
    sigma: float = 2.0  # pixels; smoothing of the difference of photos of the same blur


ALIGNMENT_PARAMS = AlignmentParams()


def sharpness(burst: Tensor) -> Tensor:
    """[T] mean squared gradient of each photo of [T, 3, H, W], after smoothing against noise."""
    scores = []
    for photo in burst:
        luma = cv2.GaussianBlur(gamma_luma(photo).cpu().numpy(), (0, 0), 1.0)
        down, across = (torch.from_numpy(cv2.Sobel(luma, cv2.CV_32F, *axis)) for axis in ((0, 1), (1, 0)))
        scores.append((down.square() + across.square()).mean())
    return torch.stack(scores)


def align_burst(
    burst: Tensor,
    reference: int,
    *,
    on_aligned: Callable[[], None] = lambda: None,
    params: AlignmentParams = ALIGNMENT_PARAMS,
) -> AlignedBurst:
    """Register all photos of [T, 3, H, W] to the reference, and match their exposure.

    Args:
        burst: [T, 3, H, W] linear RGB.
        reference: Number of the photo that stays as it is.
        on_aligned: Called after each photo.
        params: Tunables.
    """
    base = burst[reference]
    noise = noise_level(gamma_luma(base).cpu().numpy())
    linear, consistency = [], []
    for number, photo in enumerate(burst):
        # The finest pyramid level gains 0.3 dB on four bursts whose exposures differ.
        matrix = (
            estimate_homography(base, photo, config=HomographyConfig(finest=True))
            if number != reference
            else torch.eye(3, dtype=torch.float64)
        )
        warped, confidence = (
            (base, torch.zeros_like(base[0])) if matrix is None else _align(base, photo, matrix, params)
        )
        linear.append(warped)
        consistency.append(confidence)
        on_aligned()
    return AlignedBurst(
        linear=torch.stack(linear), consistency=torch.stack(consistency), reference=reference, noise=noise
    )


def agreement(
    one: Tensor, other: Tensor, *, noise: float, params: AlignmentParams = ALIGNMENT_PARAMS
) -> Tensor:
    """[H, W] in [0, 1]: agreement of two images [3, H, W] of the same blur.

    Args:
        one: Linear RGB.
        other: Linear RGB.
        noise: Standard deviation of the gamma-coded noise.
        params: Scale and smoothing of the difference.
    """
    difference = _root_difference(one, other)
    smoothed = [cv2.GaussianBlur(abs(channel), (0, 0), params.sigma) for channel in difference]
    return _confidence(smoothed, one, params.difference_scale + 2 * noise)


def _align(base: Tensor, photo: Tensor, matrix: Tensor, params: AlignmentParams) -> tuple[Tensor, Tensor]:
    """A photo on the grid and at the exposure of `base`, and their agreement."""
    shift = homography_to_flow(matrix, (base.shape[1], base.shape[2])).to(base)
    warped = _warp_homography(photo, matrix).clamp_min(0)
    valid = (in_bounds(shift) & (warped.amax(0) < params.saturation)).to(base)
    both = (valid * (base.amax(0) < params.saturation)).bool()
    both &= warped.amin(0) > params.min_exposure_value
    if both.any():
        ratio = base[:, both].mean(1) / warped[:, both].mean(1)
        warped = warped * ratio.clamp(1 / params.max_exposure_ratio, params.max_exposure_ratio).view(3, 1, 1)
    # Smoothed further than any shake, before the absolute value: what still differs has moved.
    smoothed = [
        abs(cv2.GaussianBlur(channel, (0, 0), params.blur_sigma))
        for channel in _root_difference(base, warped)
    ]
    return warped, valid * _confidence(smoothed, base, params.difference_scale)


def _root_difference(one: Tensor, other: Tensor) -> cv2.typing.MatLike:
    return (one.clamp_min(0).sqrt() - other.clamp_min(0).sqrt()).cpu().numpy()


def _confidence(smoothed: list[cv2.typing.MatLike], like: Tensor, scale: float) -> Tensor:
    worst = torch.stack([torch.from_numpy(channel) for channel in smoothed]).amax(0).to(like)
    return torch.exp(-(worst / scale).square())


def _warp_homography(photo: Tensor, matrix: Tensor) -> Tensor:
    """Warp a photo by a homography. By Lanczos: Catmull-Rom loses a decibel more on sharp photos."""
    pixels = photo.permute(1, 2, 0).contiguous().cpu().numpy()
    warped = cv2.warpPerspective(
        pixels,
        matrix.cpu().numpy(),
        pixels.shape[1::-1],
        flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return torch.from_numpy(warped).permute(2, 0, 1).to(photo)
