"""What of a reconstructed scene may stand in a frame: only what, blurred again, is what was recorded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import max_pool2d

from freezeframe.splatting.optim.losses import sqrt_encode

WINDOW_SIGMA_PX = 2.0  # pixels that judge one
TOLERANCE = 0.02  # difference of tones, beside the noise, at which the belief is down to a third
UNEXPLAINED_RATIO = (
    0.25  # of what the scene changes in the picture: so much may stay unexplained, where that is more
)
CONTRAST_GAIN_RANGE = (
    1.05,
    1.4,
)  # contrast of detail over the input's at which the scene begins and ceases to be doubted
FEATHER_PX = 4.0  # pixels over which the scene fades into what is around it
LOW_PASS_BLUR_LENGTHS = 2.0  # lengths of the blur within which brightness is the scene's own
MIN_VIEWS = 3  # frames that must have looked at a place


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRendering:
    """A frame as the scene explains it."""

    sharp: Tensor  # [3, H, W] linear light at the middle of its exposure
    reblurred: Tensor  # [3, H, W] linear light of the whole exposure
    blur_length: float  # pixels of its blur


def composite(
    observed: Tensor, fallback: Tensor, rendering: SceneRendering, static: Tensor
) -> tuple[Tensor, Tensor]:
    """The scene where it may be believed, the other path's picture elsewhere.

    Args:
        observed: The recorded frame. [3, H, W] linear light.
        fallback: What the rest of the pipeline makes of it. [3, H, W].
        rendering: What the scene makes of it.
        static: [H, W] in [0, 1]: 0 for movers, overlays, and where too few frames looked.

    Returns:
        [3, H, W] linear light, and the scene's share [H, W] in [0, 1].
    """
    weight = blend_weight(observed, rendering, static)
    scene = transfer_low_frequencies(observed, rendering)
    return torch.lerp(fallback, scene, weight), weight


def blend_weight(observed: Tensor, rendering: SceneRendering, static: Tensor) -> Tensor:
    """[H, W] in [0, 1]: static, explained when blurred again, and sharper than what was recorded."""
    gap = local_rmse(rendering.reblurred, observed)
    # Half of all pixels are explained as well as noise allows: more than that is a contradiction.
    excess = (gap - gap[static > 0.5].median().nan_to_num()).clamp_min(0)
    tolerance = (UNEXPLAINED_RATIO * local_rmse(rendering.sharp, observed)).clamp_min(TOLERANCE)
    explained = torch.exp(-(excess / tolerance).square())
    gain = (local_contrast(rendering.sharp) + 1e-4) / (local_contrast(observed) + 1e-4)
    low, high = CONTRAST_GAIN_RANGE
    sharper = ((gain - low) / (high - low)).clamp(0, 1)
    # Only the mask has hard edges: the others were smoothed when they were measured.
    return feather(static) * explained * sharper


def feather(mask: Tensor) -> Tensor:
    """A mask [H, W] in [0, 1] with soft edges, all of them inside it."""
    # Shrunk by as much as the feather spreads: no pixel is let in that was left out.
    reach = 2 * round(FEATHER_PX) + 1
    eroded = -max_pool2d(-mask[None], reach, stride=1, padding=reach // 2)[0]
    return torch.minimum(gaussian_smooth(eroded, FEATHER_PX / 2), mask)


def transfer_low_frequencies(observed: Tensor, rendering: SceneRendering) -> Tensor:
    """The scene with the frame's broad shades: exposure, colour and vignette are always the input's.

    What blurring the scene again leaves unexplained, smoothed beyond the blur, is added.
    """
    sigma_px = max(8.0, LOW_PASS_BLUR_LENGTHS * rendering.blur_length)
    residual = torch.stack([gaussian_smooth(channel, sigma_px) for channel in observed - rendering.reblurred])
    return (rendering.sharp + residual).clamp_min(0)


def local_rmse(one: Tensor, other: Tensor) -> Tensor:
    """[H, W] root mean square difference of tones around each pixel of two [3, H, W]."""
    return gaussian_smooth((sqrt_encode(one) - sqrt_encode(other)).square().mean(0), WINDOW_SIGMA_PX).sqrt()


def local_contrast(linear: Tensor) -> Tensor:
    """[H, W] contrast of fine detail around each pixel of [3, H, W]."""
    tone = sqrt_encode(linear).mean(0)
    return gaussian_smooth((tone - gaussian_smooth(tone, 1.5)).square(), 2 * WINDOW_SIGMA_PX).sqrt()


def gaussian_smooth(field: Tensor, sigma: float) -> Tensor:
    """[H, W] smoothed by a Gaussian of `sigma` pixels."""
    width = min(2 * round(3 * sigma) + 1, 2 * (min(field.shape) // 2) - 1)
    smoothed: Tensor = gaussian_blur2d(field[None, None], (width, width), (sigma, sigma), "replicate")
    return smoothed[0, 0]
