"""Blending a rendering into a frame where its re-blurred rendering matches the recorded frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import max_pool2d

from freezeframe.splatting.optim.losses import sqrt_encode


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeConfig:
    """Parameters of the blend weight and of the transfer of low frequencies."""

    # Differences are of square roots of linear values.
    tolerance: float = 0.02  # local error beyond noise at which the weight is 1/e
    unexplained_ratio: float = 0.25  # tolerance over local difference of rendering and frame, where greater
    min_contrast_gain: float = 1.05  # local contrast of rendering over frame at which the weight is 0
    full_contrast_gain: float = 1.4  # and at which it is 1
    feather_px: float = 4.0  # width of the transition at the border of the static part
    low_pass_blur_lengths: float = 2.0  # sigma of the low-pass filter over blur length
    min_low_pass_px: float = 8.0  # and its minimum
    min_views: int = 3  # frames that must contain a point


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRendering:
    """Renderings of a scene for one frame."""

    sharp: Tensor  # [3, H, W] linear RGB at the middle of the exposure
    reblurred: Tensor  # [3, H, W] linear RGB of the exposure
    blur_length: float  # pixels


def composite(
    observed: Tensor,
    fallback: Tensor,
    rendering: SceneRendering,
    static: Tensor,
    *,
    config: CompositeConfig = CompositeConfig(),
) -> tuple[Tensor, Tensor]:
    """Blend the rendering over the fallback.

    Args:
        observed: Recorded frame. [3, H, W] linear RGB.
        fallback: Result of the video pipeline. [3, H, W] linear RGB.
        rendering: Renderings of the scene.
        static: [H, W] in [0, 1]: 0 on independent motion, overlays, and points in too few frames.
        config: Tolerances.

    Returns:
        [3, H, W] linear RGB, and the weight of the rendering [H, W] in [0, 1].
    """
    weight = blend_weight(observed, rendering, static, config=config)
    scene = transfer_low_frequencies(observed, rendering, config=config)
    return torch.lerp(fallback, scene, weight), weight


def blend_weight(
    observed: Tensor,
    rendering: SceneRendering,
    static: Tensor,
    *,
    config: CompositeConfig = CompositeConfig(),
) -> Tensor:
    """[H, W] in [0, 1]: high where the scene is static, re-blurs to the frame, and is sharper than it."""
    error = local_rmse(rendering.reblurred, observed)
    # The median error is taken for noise.
    excess = (error - error[static > 0.5].median().nan_to_num()).clamp_min(0)
    change = local_rmse(rendering.sharp, observed)
    tolerance = (config.unexplained_ratio * change).clamp_min(config.tolerance)
    explained = torch.exp(-(excess / tolerance).square())
    gain = (local_contrast(rendering.sharp) + 1e-4) / (local_contrast(observed) + 1e-4)
    low, high = config.min_contrast_gain, config.full_contrast_gain
    sharper = ((gain - low) / (high - low)).clamp(0, 1)
    # Only the mask has hard edges; the other factors are smooth.
    return feather(static, width_px=config.feather_px) * explained * sharper


def feather(mask: Tensor, *, width_px: float = 4.0) -> Tensor:
    """Mask [H, W] in [0, 1] with soft edges that lie inside its support."""
    # Eroded by the width of the smoothing: no pixel outside the mask gets weight.
    size = 2 * round(width_px) + 1
    eroded = -max_pool2d(-mask[None], size, stride=1, padding=size // 2)[0]
    return torch.minimum(gaussian_smooth(eroded, width_px / 2), mask)


def transfer_low_frequencies(
    observed: Tensor, rendering: SceneRendering, *, config: CompositeConfig = CompositeConfig()
) -> Tensor:
    """[3, H, W] sharp rendering with the low frequencies of the frame: exposure, colour and vignetting.

    Adds the low-pass filtered residual of the re-blurred rendering.
    """
    sigma_px = max(config.min_low_pass_px, config.low_pass_blur_lengths * rendering.blur_length)
    residual = torch.stack([gaussian_smooth(channel, sigma_px) for channel in observed - rendering.reblurred])
    return (rendering.sharp + residual).clamp_min(0)


def local_rmse(one: Tensor, other: Tensor, *, sigma_px: float = 2.0) -> Tensor:
    """[H, W] local RMS difference of square roots of two linear images [3, H, W]."""
    return gaussian_smooth((sqrt_encode(one) - sqrt_encode(other)).square().mean(0), sigma_px).sqrt()


def local_contrast(linear: Tensor, *, detail_px: float = 1.5, sigma_px: float = 4.0) -> Tensor:
    """[H, W] local RMS of the high-pass filtered square root of a linear image [3, H, W]."""
    encoded = sqrt_encode(linear).mean(0)
    return gaussian_smooth((encoded - gaussian_smooth(encoded, detail_px)).square(), sigma_px).sqrt()


def gaussian_smooth(field: Tensor, sigma: float) -> Tensor:
    """[H, W] filtered by a Gaussian of `sigma` pixels, replicating the border."""
    size = min(2 * round(3 * sigma) + 1, 2 * (min(field.shape) // 2) - 1)
    smoothed: Tensor = gaussian_blur2d(field[None, None], (size, size), (sigma, sigma), "replicate")
    return smoothed[0, 0]
