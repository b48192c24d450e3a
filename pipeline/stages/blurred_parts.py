"""The parts of a frame that are blurred as its flow says: where, how far, and in which direction.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.types import Box, Mover, RegionVerdict

from .gate import LOCAL_AREA, Proposal, quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class PartParams:
    """Tunables of the parts."""

    area: float = LOCAL_AREA  # fraction of a part that must exceed its blur
    long: float = 0.5  # fraction of that blur from which a vector counts for the direction
    step: int = 4  # pixels between the vectors of a whole frame that are looked at


PART_PARAMS = PartParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurredPart:
    """A part of a frame that is deconvolved."""

    box: Box
    mover: Mover  # what moves
    blur: float  # pixels; exceeded in a small fraction of the part
    direction: float  # radians in (-pi/2, pi/2]: blur has no sign


def with_regions(proposal: Proposal, vectors: Tensor, *, shutter: float) -> Proposal:
    """The proposal to deconvolve a frame, with the regions that it changes.

    Args:
        proposal: Of one frame.
        vectors: Blur vectors of its box, or of the frame. [2, h, w] pixels.
        shutter: Exposure time over frame interval.
    """
    if proposal.sanity is None or not proposal.sanity.finite:
        return proposal
    left, top = (proposal.box.left, proposal.box.top) if proposal.box else (0, 0)
    regions = [
        RegionVerdict(
            track=None,
            box=part.box.shift(left, top),
            mover=part.mover,
            blur=part.blur,
            direction=part.direction,
            shutter=shutter,
            method="deconvolution",
            residual=proposal.sanity.residual,
            strength=1.0,
        )
        for part in blurred_parts(vectors, proposal.mask)
    ]
    return replace(proposal, deconvolved=tuple(regions))


def blurred_parts(vectors: Tensor, mask: Tensor | None) -> tuple[BlurredPart, ...]:
    """The parts of a frame that a deconvolution changes.

    Args:
        vectors: Blur vectors. [2, H, W] pixels.
        mask: What moves before a still camera, above 0 in [H, W]; each connected part is one. None: the
            camera moves, and the frame is one part.
    """
    height, width = vectors.shape[1:]
    if mask is None:
        frame, step = Box(left=0, top=0, right=width, bottom=height), PART_PARAMS.step
        return (_part(frame, "camera", vectors[:, ::step, ::step].reshape(2, -1)),)
    parts = []
    for box, inside in connected_parts(mask):
        rows, columns = box.slices((height, width))
        parts.append(_part(box, "object", vectors[:, rows, columns][:, inside]))
    return tuple(parts)


def blur_of(vectors: Tensor, params: PartParams = PART_PARAMS) -> tuple[float, float]:
    """Sustained length, pixels, and direction, radians in (-pi/2, pi/2], of blur vectors [2, N].

    The direction is the mean of the doubled angles: opposite vectors have one direction, and the two sides
    of a roll of the camera do not cancel.
    """
    x, y = vectors.cpu().double()
    lengths = torch.hypot(x, y)
    (blur,) = quantiles(lengths, 1 - params.area)
    long = lengths >= params.long * blur
    doubled = torch.complex(x[long], y[long]).square() / lengths[long].clamp_min(1e-9)
    return blur, float(doubled.sum().angle()) / 2


def connected_parts(mask: Tensor) -> Iterator[tuple[Box, Tensor]]:
    """Box and pixels, [h, w] bool, of each connected part of what is above 0 in a mask, [H, W]."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).cpu().numpy().astype(np.uint8))
    for number, (left, top, width, height, _) in enumerate(stats.tolist()[1:], start=1):
        box = Box(left=left, top=top, right=left + width, bottom=top + height)
        rows, columns = box.slices((mask.shape[0], mask.shape[1]))
        yield box, torch.from_numpy(np.asarray(labels[rows, columns] == number))


def _part(box: Box, mover: Mover, vectors: Tensor) -> BlurredPart:
    blur, direction = blur_of(vectors)
    return BlurredPart(box=box, mover=mover, blur=blur, direction=direction)
