"""How close a picture is to the truth, and how steady a clip is.

Protocol (specs of the field differ by up to 4.7 dB for the same method): 8-bit sRGB codes after rounding and
clipping, float64, every frame, no alignment.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded

SrgbImage = npt.NDArray[np.uint8]

_BORDER = 5  # pixels that an 11x11 window cannot see whole
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two [3, H, W] linear RGB pictures, as 8-bit sRGB."""
    return psnr_srgb(linear_to_srgb(image), linear_to_srgb(truth))


def ssim(image: Tensor, truth: Tensor) -> float:
    """Structural similarity of two [3, H, W] linear RGB pictures, as 8-bit sRGB."""
    return ssim_srgb(linear_to_srgb(image), linear_to_srgb(truth))


def psnr_srgb(image: SrgbImage, truth: SrgbImage) -> float:
    """Peak signal-to-noise ratio in dB of two [H, W, 3] uint8 pictures; infinite where they are equal."""
    _same_shape(image, truth)
    error = np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return psnr_from_mse(float(error), peak=255.0)


def psnr_from_mse(mse: float, *, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error, for values in [0, `peak`]; infinite for 0."""
    return float(10 * np.log10(peak**2 / mse)) if mse else float("inf")


def ssim_srgb(image: SrgbImage, truth: SrgbImage) -> float:
    """Structural similarity (Wang et al. 2004) of two [H, W, 3] uint8 pictures, mean over RGB.

    Gaussian window 11x11 of sigma 1.5; the border of 5 pixels, where the window sticks out, does not count.
    """
    _same_shape(image, truth)
    if min(image.shape[:2]) <= 2 * _BORDER:
        raise ValueError(f"structural similarity needs pictures of at least 11x11 pixels, not {image.shape}")
    a, b = image.astype(np.float64), truth.astype(np.float64)
    return float(ssim_map(a, b).mean())


def ssim_map(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Structural similarity of each window, [H - 10, W - 10, 3], of two [H, W, 3] pictures of codes."""
    mean_a, mean_b = _window(a), _window(b)
    var_a, var_b = _window(a * a) - mean_a**2, _window(b * b) - mean_b**2
    cov = _window(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + _C1) * (2 * cov + _C2)
    similarity /= (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return similarity[_BORDER:-_BORDER, _BORDER:-_BORDER]


def sharpness(image: SrgbImage) -> float:
    """Steepness of the brightness of a [H, W, 3] uint8 picture: root mean square gradient, codes per pixel.

    Tenengrad (Tenenbaum 1970): Sobel's differences, here normalised to a ramp's slope. Noise and ringing
    count as sharpness: only beside the truth's own does it mean something.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    across, down = (cv2.Sobel(luma, cv2.CV_64F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0))
    return float(np.sqrt(np.mean(across**2 + down**2)))


def temporal_flicker(images: Tensor) -> float:
    """Frame-to-frame unrest of the brightness of 16x16 blocks, in 8-bit codes.

    Second differences over time leave steady change (a pan's light, a fade) out and keep what comes and goes.

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


def linear_to_srgb(image: Tensor) -> SrgbImage:
    """[H, W, 3] uint8 sRGB of [3, H, W] linear RGB."""
    # Cast to bytes, NaN would be black: in a dark picture the best of scores.
    if image.isnan().any():
        raise ValueError("a picture with NaN in it has no codes")
    signal = to_encoded(image.detach().cpu().float().clamp(0, 1), SRGB)
    encoded: SrgbImage = (signal.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).contiguous().numpy()
    return encoded


def _window(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101))


def _same_shape(image: SrgbImage, truth: SrgbImage) -> None:
    if image.shape != truth.shape:
        raise ValueError(f"pictures to compare differ in size: {image.shape} and {truth.shape}")
