"""How much of each pixel of a frame is copied, deconvolved and reconstructed.

Nothing here takes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gate import Proposal

FULL = 255  # code of a whole pixel


def confidence_map(proposal: Proposal, strength: float) -> Tensor:
    """[3, H, W] uint8: copied, deconvolved and reconstructed parts of each pixel; they sum to 255.

    A pixel is 255 in the first channel if and only if it is the recorded one. The second channel holds what
    the correction of the whole frame contributes, and backgrounds of layers that are deconvolved. The third
    one holds the light of fitted layers, and what they uncover: their coverage times their strength.

    Args:
        proposal: A frame and its corrections, with the final strengths of its regions.
        strength: Applied fraction of the correction of the whole frame.
    """
    deconvolved, reconstructed = torch.zeros(2, *proposal.frame.picture.size)
    if proposal.image is not None:
        size = proposal.frame.picture.size
        rows, columns = proposal.box.slices(size) if proposal.box else (slice(None), slice(None))
        deconvolved[rows, columns] = strength * (1.0 if proposal.mask is None else proposal.mask.cpu())
    for region in proposal.regions:
        rows, columns = region.verdict.box.slices(proposal.frame.picture.size)
        weight, coverage = region.verdict.strength * region.weight, region.coverage.cpu()
        background = (1 - coverage) * region.background_is_deconvolved
        reconstructed[rows, columns] = reconstructed[rows, columns].lerp(coverage, weight.cpu())
        deconvolved[rows, columns] = deconvolved[rows, columns].lerp(background, weight.cpu())
    # Rounded up: what is changed at all is not called copied.
    layers = (FULL * reconstructed).ceil_().clamp_(0, FULL)
    flow = torch.minimum((FULL * deconvolved).ceil_(), FULL - layers)
    return torch.stack([FULL - layers - flow, flow, layers]).to(torch.uint8)
