"""One blurred photograph made sharp: along the field of the network, or of a turning camera.

The network (`models/deblur/blur_field.py`) sees shake and fields of any form; that of a camera
(`photo_blur.py`) is exact where one made the blur. Both fields are deconvolved, and the one that leaves less
of the photograph unexplained is taken.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from freezeframe.data.blur.blocks import block_upsample
from freezeframe.data.blur.operator import blur
from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.models.deblur.blur_field import BlurField, estimate_blur_field
from freezeframe.models.deblur.psf_estimator import PsfEstimator

from .field_deconvolution import deconvolve_along_field
from .photo_blur import estimate_photo_blur


@dataclass(frozen=True, slots=True, kw_only=True)
class DeblurredPhoto:
    """A sharpened photograph, and the blur that was undone."""

    encoded: Tensor  # [3, H, W] sRGB-encoded in [0, 1]; without blur the photograph to the bit
    field: BlurField


@torch.no_grad()
def deblur_photo(network: nn.Module, estimator: PsfEstimator, encoded: Tensor) -> DeblurredPhoto:
    """Undo the motion blur of a photograph [3, H, W], sRGB-encoded in [0, 1], where it is seen for sure.

    Only where the network sees blur is a camera looked for: sharp photographs are left alone twice.
    """
    by_network = estimate_blur_field(network, encoded)
    if not bool((by_network.blurred > 0).any()):
        return DeblurredPhoto(encoded=encoded, field=by_network)
    results = [
        DeblurredPhoto(encoded=deconvolve_along_field(encoded, field), field=field)
        for field in (by_network, estimate_photo_blur(estimator, encoded))
        if bool((field.blurred > 0).any())
    ]
    return min(results, key=lambda result: unexplained(encoded, result))


def unexplained(photo: Tensor, result: DeblurredPhoto) -> float:
    """What blurring the result leaves of the photograph, over what blurring the photograph itself leaves."""
    vectors = block_upsample(result.field.vectors, photo.shape[1:])
    before, after = (
        float((to_encoded(blur(to_linear(each, SRGB), vectors).clamp(0, 1), SRGB) - photo).square().mean())
        for each in (photo, result.encoded)
    )
    return after / max(before, 1e-12)
