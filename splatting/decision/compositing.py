"""What of a reconstructed scene may stand in a frame: only what, blurred again, is what was recorded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import max_pool2d

from freezeframe.splatting.optim.losses import tones

AROUND = 2.0  # pixels that judge one
TOLERANCE = 0.02  # difference of tones, beside the noise, at which the belief is down to a third
UNSAID = 0.25  # of what the scene changes in the picture: so much may stay unexplained, where that is more
GAINED = (1.05, 1.4)  # contrast of detail over the input's at which the scene begins and ceases to be doubted
FEATHER = 4.0  # pixels over which the scene fades into what is around it
BROAD = 2.0  # lengths of the blur within which brightness is the scene's own
SEEN = 3  # frames that must have looked at a place


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A frame as the scene explains it."""

    sharp: Tensor  # [3, H, W] linear light at the middle of its exposure
    reblurred: Tensor  # [3, H, W] linear light of the whole exposure
    length: float  # pixels of its blur


def composite(seen: Tensor, other: Tensor, candidate: Candidate, static: Tensor) -> tuple[Tensor, Tensor]:
    """The scene where it may be believed, the other path's picture elsewhere.

    Args:
        seen: The recorded frame. [3, H, W] linear light.
        other: What the rest of the pipeline makes of it. [3, H, W].
        candidate: What the scene makes of it.
        static: [H, W] in [0, 1]: 0 for movers, overlays, and where too few frames looked.

    Returns:
        [3, H, W] linear light, and the scene's share [H, W] in [0, 1].
    """
    share = belief(seen, candidate, static)
    mine = with_its_own_shades(seen, candidate)
    return torch.lerp(other, mine, share), share


def belief(seen: Tensor, candidate: Candidate, static: Tensor) -> Tensor:
    """[H, W] in [0, 1]: static, explained when blurred again, and sharper than what was recorded."""
    gap = apart(candidate.reblurred, seen)
    # Half of all pixels are explained as well as noise allows: more than that is a contradiction.
    excess = (gap - gap[static > 0.5].median().nan_to_num()).clamp_min(0)
    bearable = (UNSAID * apart(candidate.sharp, seen)).clamp_min(TOLERANCE)
    explained = torch.exp(-(excess / bearable).square())
    gain = (detail(candidate.sharp) + 1e-4) / (detail(seen) + 1e-4)
    low, high = GAINED
    sharper = ((gain - low) / (high - low)).clamp(0, 1)
    # Only the mask has hard edges: the others were smoothed when they were measured.
    return feathered(static) * explained * sharper


def feathered(mask: Tensor) -> Tensor:
    """A mask [H, W] in [0, 1] with soft edges, all of them inside it."""
    # Shrunk by as much as the feather spreads: no pixel is let in that was left out.
    reach = 2 * round(FEATHER) + 1
    shrunk = -max_pool2d(-mask[None], reach, stride=1, padding=reach // 2)[0]
    return torch.minimum(soft(shrunk, FEATHER / 2), mask)


def with_its_own_shades(seen: Tensor, candidate: Candidate) -> Tensor:
    """The scene with the frame's broad shades: exposure, colour and vignette are always the input's.

    What blurring the scene again leaves unexplained, smoothed beyond the blur, is added.
    """
    broad = max(8.0, BROAD * candidate.length)
    left = torch.stack([soft(channel, broad) for channel in seen - candidate.reblurred])
    return (candidate.sharp + left).clamp_min(0)


def apart(one: Tensor, other: Tensor) -> Tensor:
    """[H, W] root mean square difference of tones around each pixel of two [3, H, W]."""
    return soft((tones(one) - tones(other)).square().mean(0), AROUND).sqrt()


def detail(light: Tensor) -> Tensor:
    """[H, W] contrast of fine detail around each pixel of [3, H, W]."""
    tone = tones(light).mean(0)
    return soft((tone - soft(tone, 1.5)).square(), 2 * AROUND).sqrt()


def soft(field: Tensor, sigma: float) -> Tensor:
    """[H, W] smoothed by a Gaussian of `sigma` pixels."""
    width = min(2 * round(3 * sigma) + 1, 2 * (min(field.shape) // 2) - 1)
    smoothed: Tensor = gaussian_blur2d(field[None, None], (width, width), (sigma, sigma), "replicate")
    return smoothed[0, 0]
