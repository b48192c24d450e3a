"""The last part of the fuse stage: the learned network over what the deconvolution recovered.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded, to_linear_
from freezeframe.data.types import Clip, Motion
from freezeframe.models.deblur.fusion_net import FUSED, SINGLE_FRAME, build_network_input
from freezeframe.models.registry.bundled import FusionInference
from freezeframe.motion.flow.warp import warp

from .fuse import FusedFrames

RESIDUAL_SCALE = 0.9  # see `residual_scale`


def finish(
    fused: FusedFrames, clip: Clip, motion: Motion, network: FusionInference | None, *, which: Sequence[int]
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
            _apply_network(image, fusion_input(fused, clip, motion, (k, i)), network)
            for k, (i, image) in enumerate(zip(which, fused.images, strict=True))
        ]
    )


def finish_photo(image: Tensor, network: FusionInference | None) -> Tensor:
    """A picture without neighbours, [3, H, W] linear RGB, as far as the network alone can mend it."""
    if network is None:
        return image
    encoded, zeros = _encode(image), torch.zeros_like(image)
    alone = build_network_input(
        [encoded, encoded, encoded, encoded], blur_vector=zeros[:2], confidence=zeros[0]
    )
    return _apply_network(image, alone, network)


def fusion_input(fused: FusedFrames, clip: Clip, motion: Motion, position: tuple[int, int]) -> Tensor:
    """The evidence, [16, H, W], of the frame at (position in `fused`, position in `clip`)."""
    k, i = position
    frame = _encode(clip.images[i])
    neighbours = [
        _encode(warp_to(clip, motion, (i, j))) if (i, j) in motion.flows else frame for j in (i - 1, i + 1)
    ]
    return build_network_input(
        [frame, _encode(fused.images[k]), *neighbours],
        blur_vector=fused.blur_vectors[k],
        confidence=fused.confidence[k],
    )


def warp_to(clip: Clip, motion: Motion, pair: tuple[int, int]) -> Tensor:
    """Frame j of the pair (i, j) on the grid of frame i: [3, H, W] linear RGB."""
    i, j = pair
    return warp(clip.images[j], motion.flows[i, j].uv)


def residual_scale(network_input: Tensor) -> float:
    """Of the change that the network proposes on this evidence, [16, H, W], how much is taken.

    It learned from rendered clips, and these want all of it. REDS frames want 0.8 or less as they are and in
    grain, 0.8 to 0.9 compressed: all of it costs them up to 0.15 dB, 0.9 up to 0.06. A tenth of what the
    deconvolution does wrong is left by it. Without neighbours all of it is best.
    """
    return 1.0 if bool(network_input[SINGLE_FRAME].any()) else RESIDUAL_SCALE


def _apply_network(image: Tensor, network_input: Tensor, network: FusionInference) -> Tensor:
    encoded = network_input[FUSED]
    change = residual_scale(network_input) * network(network_input[None])[0].to(encoded)
    unchanged = change == 0
    linear = to_linear_(change.add_(encoded).clamp_(0, 1), SRGB)
    # Copied where nothing changes: there and back through a curve is not the identity on every processor.
    return torch.where(unchanged, image, linear.add_(image).sub_(image.clamp(0, 1)))


def _encode(linear: Tensor) -> Tensor:
    return to_encoded(linear, SRGB).clamp_(max=1)
