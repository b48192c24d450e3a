"""PSNR, SSIM, RMS gradient and flicker.

Protocol (those of the field differ by up to 4.7 dB for the same method): 8-bit sRGB code values, rounded and
clipped; float64; every frame; no alignment.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.srgb import SrgbImage, linear_to_srgb

SSIM_BORDER = 5  # pixels whose 11x11 window exceeds the image
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two [3, H, W] linear RGB images, as 8-bit sRGB."""
    return psnr_srgb(linear_to_srgb(image), linear_to_srgb(truth))


def ssim(image: Tensor, truth: Tensor) -> float:
    """Structural similarity of two [3, H, W] linear RGB images, as 8-bit sRGB."""
    return ssim_srgb(linear_to_srgb(image), linear_to_srgb(truth))


def psnr_srgb(image: SrgbImage, truth: SrgbImage) -> float:
    """Peak signal-to-noise ratio in dB of two [H, W, 3] uint8 images; infinite if they are equal."""
    _check_shapes(image, truth)
    error = np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return psnr_from_mse(float(error), peak=255.0)


def psnr_from_mse(mse: float, *, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error, for values in [0, `peak`]; infinite for 0."""
    return float(10 * np.log10(peak**2 / mse)) if mse else float("inf")


def ssim_srgb(image: SrgbImage, truth: SrgbImage) -> float:
    """Structural similarity (Wang et al. 2004) of two [H, W, 3] uint8 images, mean over RGB.

    Gaussian window of 11x11 pixels and sigma 1.5, without the border of 5 pixels, where it exceeds the image.

    Raises:
        ValueError: The images differ in size, or are smaller than the window.
    """
    _check_shapes(image, truth)
    if min(image.shape[:2]) <= 2 * SSIM_BORDER:
        raise ValueError(f"SSIM needs images of at least 11x11 pixels, not {image.shape}")
    a, b = image.astype(np.float64), truth.astype(np.float64)
    return float(ssim_map(a, b).mean())


def ssim_map(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Structural similarity of each window, [H - 10, W - 10, 3], of two [H, W, 3] images of code values."""
    mean_a, mean_b = _window(a), _window(b)
    var_a, var_b = _window(a * a) - mean_a**2, _window(b * b) - mean_b**2
    cov = _window(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + _C1) * (2 * cov + _C2)
    similarity /= (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return similarity[SSIM_BORDER:-SSIM_BORDER, SSIM_BORDER:-SSIM_BORDER]


def rms_gradient(image: SrgbImage) -> float:
    """Root mean square gradient of the luma of a [H, W, 3] uint8 image, code values per pixel.

    Tenengrad (Tenenbaum 1970) with the Sobel operator normalised to the slope of a ramp. Noise and ringing
    raise it as well as detail does: only the ratio to that of a reference is a measure of sharpness.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    gx, gy = (cv2.Sobel(luma, cv2.CV_64F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0))
    return float(np.sqrt(np.mean(gx**2 + gy**2)))


def temporal_flicker(images: Tensor) -> float:
    """Root mean square second difference over time of the mean of 16x16 blocks, in 8-bit code values.

    Second differences ignore steady change, such as a fade.

    Args:
        images: [T, 3, H, W] linear RGB; T >= 3, H and W >= 16.
    """
    if len(images) < 3 or min(images.shape[-2:]) < 16:
        raise ValueError(
            f"flicker needs at least 3 frames of at least 16x16 pixels, not {tuple(images.shape)}"
        )
    encoded = to_encoded(images.clamp(0, 1), SRGB).mean(1, keepdim=True) * 255
    blocks = torch.nn.functional.avg_pool2d(encoded, 16)
    return float((blocks[2:] - 2 * blocks[1:-1] + blocks[:-2]).square().mean().sqrt())


def _window(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101))


def _check_shapes(image: SrgbImage, truth: SrgbImage) -> None:
    if image.shape != truth.shape:
        raise ValueError(f"images to compare differ in size: {image.shape} and {truth.shape}")
