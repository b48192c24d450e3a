"""Region proposals with random pixels."""

from __future__ import annotations

from fractions import Fraction

import torch

from freezeframe.data.types import Box, Frame, RegionVerdict
from freezeframe.pipeline.stages.gate import Proposal, RegionProposal
from tests.support.pictures import LinearPicture

SIZE = (40, 50)  # of the frames, height and width


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def region(
    *, track: int = 0, strength: float = 1.0, left: int = 10, top: int = 5, seed: int = 1
) -> RegionProposal:
    """A layer of 16 x 20 pixels that covers a disc in the middle of its box."""
    box = Box(left=left, top=top, right=left + 20, bottom=top + 16)
    rows, columns = torch.meshgrid(torch.arange(16) - 7.5, torch.arange(20) - 9.5, indexing="ij")
    coverage = (7 - torch.hypot(rows, columns)).clamp(0, 1)
    return RegionProposal(
        verdict=RegionVerdict(
            track=track, box=box, mover="object", blur=8.0, direction=0.2, shutter=0.6,
            method="layer" if strength else "input", residual=0.1 * seed, strength=strength,
        ),
        image=random(3, 16, 20, seed=seed),
        weight=(coverage > 0).float(),
        coverage=coverage,
    )  # fmt: skip


def proposal(*regions: RegionProposal, index: int = 0) -> Proposal:
    """A frame of noise with these regions."""
    picture = LinearPicture(random(3, *SIZE, seed=9))
    return Proposal(
        frame=Frame(index=index, time=Fraction(index), picture=picture), blur=0.0, regions=regions
    )
