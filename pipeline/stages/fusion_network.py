"""The last part of the fuse stage: the learned network over what the deconvolution recovered.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_light_, to_signal
from freezeframe.data.types import Clip, Motion
from freezeframe.models.deblur.fusion_net import ALONE, FUSED, evidence
from freezeframe.models.registry.bundled import Network
from freezeframe.motion.flow.warp import warp

from .fuse import Fused

SHARE = 0.9  # see `share_of`


def finish(
    fused: Fused, clip: Clip, motion: Motion, network: Network | None, *, which: Sequence[int]
) -> Tensor:
    """Let the network judge and mend each deconvolved frame.

    Args:
        fused: What the deconvolution made of the frames `which`.
        clip: The frames themselves.
        motion: How they moved.
        network: None leaves the deconvolution as it is.
        which: Positions in the clip of the frames of `fused`.

    Returns:
        [K, 3, H, W] linear RGB. Light outside [0, 1], which the network never saw, stays as it was.
    """
    if network is None or not which:
        return fused.images
    return torch.stack(
        [
            _mended(image, seen(fused, clip, motion, (k, i)), network)
            for k, (i, image) in enumerate(zip(which, fused.images, strict=True))
        ]
    )


def finish_photo(image: Tensor, network: Network | None) -> Tensor:
    """A picture without neighbours, [3, H, W] linear RGB, as far as the network alone can mend it."""
    if network is None:
        return image
    codes, nothing = _codes(image), torch.zeros_like(image)
    alone = evidence([codes, codes, codes, codes], way=nothing[:2], confidence=nothing[0])
    return _mended(image, alone, network)


def seen(fused: Fused, clip: Clip, motion: Motion, place: tuple[int, int]) -> Tensor:
    """The evidence, [16, H, W], of the frame at (position in `fused`, position in `clip`)."""
    k, i = place
    frame = _codes(clip.images[i])
    near = [
        _codes(laid_onto(clip, motion, (i, j))) if (i, j) in motion.flows else frame for j in (i - 1, i + 1)
    ]
    return evidence(
        [frame, _codes(fused.images[k]), *near], way=fused.ways[k], confidence=fused.confidence[k]
    )


def laid_onto(clip: Clip, motion: Motion, pair: tuple[int, int]) -> Tensor:
    """Frame j of the pair (i, j) on the grid of frame i: [3, H, W] linear RGB."""
    i, j = pair
    return warp(clip.images[j], motion.flows[i, j].shift)


def share_of(proof: Tensor) -> float:
    """Of the change that the network proposes on this evidence, [16, H, W], how much is taken.

    It learned from rendered clips, and these want all of it. REDS frames want 0.8 or less as they are and in
    grain, 0.8 to 0.9 compressed: all of it costs them up to 0.15 dB, 0.9 up to 0.06. A tenth of what the
    deconvolution does wrong is left by it. Without neighbours all of it is best.
    """
    return 1.0 if bool(proof[ALONE].any()) else SHARE


def _mended(image: Tensor, proof: Tensor, network: Network) -> Tensor:
    codes = proof[FUSED]
    change = share_of(proof) * network(proof[None])[0].to(codes)
    kept = change == 0
    light = to_light_(change.add_(codes).clamp_(0, 1), SRGB)
    # Copied where nothing changes: there and back through a curve is not the identity on every processor.
    return torch.where(kept, image, light.add_(image).sub_(image.clamp(0, 1)))


def _codes(light: Tensor) -> Tensor:
    return to_signal(light, SRGB).clamp_(max=1)
