"""The second part of the fuse stage: the fusion network corrects the deconvolved frames.

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


def run_fusion_network(
    fused: FusedFrames, clip: Clip, motion: Motion, network: FusionInference | None, *, which: Sequence[int]
) -> Tensor:
    """Add the residual of the network to each deconvolved frame.

    Args:
        fused: Deconvolved frames `which`.
        clip: The recorded frames.
        motion: Their flows.
        network: None returns the deconvolved frames.
        which: Positions in the clip of the frames of `fused`.

    Returns:
        [K, 3, H, W] linear RGB. Values outside [0, 1] keep their excess: the network was not trained on them.
    """
    if network is None or not which:
        return fused.images
    return torch.stack(
        [
            _add_residual(image, fusion_input(fused, clip, motion, (k, i)), network)
            for k, (i, image) in enumerate(zip(which, fused.images, strict=True))
        ]
    )


def run_fusion_network_on_photo(image: Tensor, network: FusionInference | None) -> Tensor:
    """Add the residual of the network to an image without neighbours, [3, H, W] linear RGB."""
    if network is None:
        return image
    encoded, zeros = _encode(image), torch.zeros_like(image)
    network_input = build_network_input(
        [encoded, encoded, encoded, encoded], blur_vector=zeros[:2], confidence=zeros[0]
    )
    return _add_residual(image, network_input, network)


def fusion_input(fused: FusedFrames, clip: Clip, motion: Motion, position: tuple[int, int]) -> Tensor:
    """Network input, [16, H, W], of the frame at (position in `fused`, position in `clip`)."""
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
    """Frame j of the pair (i, j), warped to the grid of frame i: [3, H, W] linear RGB."""
    i, j = pair
    return warp(clip.images[j], motion.flows[i, j].uv)


def residual_scale(network_input: Tensor) -> float:
    """Fraction of the residual that is added, for one network input [16, H, W].

    The network was trained on rendered clips, which score best with 1.0. REDS frames score best with 0.8 or
    less unprocessed and with sensor noise, and with 0.8 to 0.9 compressed: 1.0 costs them up to 0.15 dB, 0.9
    up to 0.06 dB. With 0.9 a tenth of the errors of the deconvolution stays. Without neighbours 1.0 is best.
    """
    return 1.0 if bool(network_input[SINGLE_FRAME].any()) else RESIDUAL_SCALE


def _add_residual(image: Tensor, network_input: Tensor, network: FusionInference) -> Tensor:
    encoded = network_input[FUSED]
    residual = residual_scale(network_input) * network(network_input[None])[0].to(encoded)
    unchanged = residual == 0
    linear = to_linear_(residual.add_(encoded).clamp_(0, 1), SRGB)
    # Copy pixels without a residual: encoding and decoding is not the identity on every processor.
    return torch.where(unchanged, image, linear.add_(image).sub_(image.clamp(0, 1)))


def _encode(linear: Tensor) -> Tensor:
    return to_encoded(linear, SRGB).clamp_(max=1)
