"""Cross-fade of the layers of neighbouring chunks, which are fitted apart and would differ by a jump.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch

from freezeframe.data.types import Box
from freezeframe.pipeline.stages.gate import RegionProposal

Candidate = tuple[range, RegionProposal]  # the frames that a chunk shows, and its proposal for one frame


def crossfade(candidates: Sequence[Candidate], index: int, overlap: int) -> RegionProposal:
    """One proposal for frame `index` from those of the chunks whose fit holds it.

    The result is the weighted mean of what the frame would show by each of them. The weights fall from one
    chunk to the next over the frames that both have fitted. A layer that explains little has little weight.

    Args:
        candidates: At least one.
        index: Number of the frame.
        overlap: Frames beside a chunk that are fitted too.
    """
    _, main = max(candidates, key=lambda candidate: ramp(candidate[0], index, overlap))
    weighted = [
        (ramp(shown, index, overlap) * proposal.verdict.strength, proposal) for shown, proposal in candidates
    ]
    explained = [(weight, proposal) for weight, proposal in weighted if weight > 0]
    return _mean(explained) if explained and len(candidates) > 1 else main


def ramp(shown: range, index: int, overlap: int) -> float:
    """Weight of a chunk in frame `index`: 1 inside, falling to 0 beyond `overlap` frames outside of it."""
    inside = min(index - shown.start, shown.stop - 1 - index)
    return min(1.0, max(0.0, (inside + overlap + 1) / (2 * overlap + 1)))


def _mean(weighted: Sequence[tuple[float, RegionProposal]]) -> RegionProposal:
    """Mean of proposals, each with a weight above 0."""
    total = sum(weight for weight, _ in weighted)
    _, heaviest = max(weighted, key=lambda pair: pair[0])
    box = reduce(Box.union, (proposal.verdict.box for _, proposal in weighted))
    parts = torch.zeros(5, box.height, box.width)  # light, coverage and 1 of each layer, as much as it shows
    for weight, each in weighted:
        rows, columns = each.verdict.box.shift(-box.left, -box.top).slices((box.height, box.width))
        applied = (weight / total * each.verdict.strength * each.weight).cpu()
        layer = torch.cat([each.image.cpu(), each.coverage[None].cpu(), torch.ones(1, *applied.shape)])
        parts[:, rows, columns] += layer * applied
    mean = parts[:4] / parts[4].clamp_min(1e-12)
    strength = sum(weight * each.verdict.strength for weight, each in weighted) / total
    residual = sum(weight * each.verdict.residual for weight, each in weighted) / total
    verdict = replace(heaviest.verdict, box=box, strength=strength, residual=residual)
    return replace(
        heaviest,
        verdict=verdict,
        image=mean[:3],
        coverage=mean[3],
        weight=(parts[4] / strength).clamp(0, 1),  # rounding exceeds 1
    )
