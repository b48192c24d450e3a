"""The regions that a deconvolution changes: where, and the length and direction of their blur.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.types import Box, RegionVerdict

from .gate import LOCAL_AREA, Proposal, quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionParams:
    """Tunables of the regions."""

    area: float = LOCAL_AREA  # fraction of a region that must exceed its blur
    long: float = 0.5  # fraction of that blur from which a vector has a say in the direction
    step: int = 4  # pixels between the vectors that are looked at in a whole frame


REGION_PARAMS = RegionParams()


def with_regions(proposal: Proposal, vectors: Tensor, *, shutter: float) -> Proposal:
    """The proposal to deconvolve a frame, with the regions that it changes.

    Args:
        proposal: Of one frame.
        vectors: Blur vectors of the frame. [2, H, W] pixels.
        shutter: Exposure time over frame interval.
    """
    if proposal.sanity is None or not proposal.sanity.finite:
        return proposal
    regions = deconvolved_regions(vectors, proposal.mask, shutter=shutter, residual=proposal.sanity.residual)
    return replace(proposal, deconvolved=regions)


def deconvolved_regions(
    vectors: Tensor, mask: Tensor | None, *, shutter: float, residual: float
) -> tuple[RegionVerdict, ...]:
    """The regions that the deconvolution of one frame changes, at full strength.

    Args:
        vectors: Blur vectors. [2, H, W] pixels.
        mask: Where the deconvolution is applied before a still camera, [H, W]; each connected part is a
            region. None: everywhere, because the camera moves; the frame is one region.
        shutter: Exposure time over frame interval.
        residual: Error of the re-blurred result over that of the re-blurred input.
    """
    parts = _parts(mask) if mask is not None else [_whole(vectors)]
    regions = []
    for box, inside in parts:
        rows, columns = box.slices((vectors.shape[1], vectors.shape[2]))
        blur, direction = blur_of(vectors[:, rows, columns], inside)
        regions.append(
            RegionVerdict(
                track=None,
                box=box,
                mover="camera" if mask is None else "object",
                blur=blur,
                direction=direction,
                shutter=shutter,
                method="deconvolution",
                residual=residual,
                strength=1.0,
            )
        )
    return tuple(regions)


def blur_of(vectors: Tensor, inside: Tensor, params: RegionParams = REGION_PARAMS) -> tuple[float, float]:
    """Sustained length, pixels, and direction, radians in (-pi/2, pi/2], of blur vectors.

    The mean of the doubled angles: opposite vectors have one direction, and the two sides of a turn of the
    camera do not cancel.

    Args:
        vectors: [2, h, w] pixels.
        inside: Which of them count. [h, w] bool.
        params: Tunables.
    """
    x, y = vectors[:, inside].cpu().double()
    lengths = torch.hypot(x, y)
    (blur,) = quantiles(lengths, 1 - params.area)
    long = lengths >= params.long * blur
    doubled = torch.complex(x[long], y[long]).square() / lengths[long].clamp_min(1e-9)
    return blur, float(doubled.sum().angle()) / 2


def _whole(vectors: Tensor, params: RegionParams = REGION_PARAMS) -> tuple[Box, Tensor]:
    """The box of the whole frame, and the pixels whose vectors are looked at."""
    _, height, width = vectors.shape
    sampled = torch.zeros(height, width, dtype=torch.bool)
    sampled[:: params.step, :: params.step] = True
    return Box(left=0, top=0, right=width, bottom=height), sampled


def _parts(mask: Tensor) -> Iterator[tuple[Box, Tensor]]:
    """Box and pixels, [h, w] bool, of each connected part of a mask, [H, W]."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).cpu().numpy().astype(np.uint8))
    for number, (left, top, width, height, _) in enumerate(stats.tolist()[1:], start=1):
        box = Box(left=left, top=top, right=left + width, bottom=top + height)
        rows, columns = box.slices((mask.shape[0], mask.shape[1]))
        yield box, torch.from_numpy(np.asarray(labels[rows, columns] == number))
