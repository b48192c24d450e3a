"""How good a network is while it trains: on rendered clips that it never saw, and on real pairs.

Nothing here takes a gradient.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.synthesis.scene2d.patterns import Codes
from freezeframe.data.types import Clip
from freezeframe.models.deblur.fusion_net import ALONE, FRAME, FUSED
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import seen, share_of

from .fusion_data import HELD_OUT, PER_SHARD, Pool, as_light, as_measured, parted
from .loop import Trial

SHARDS = 3  # of held-out clips
USUAL = 0.8  # shutter fraction of the real pairs


def trials(pool: Pool, pairs: Path | None) -> list[Trial]:
    """Mean gains over the blurred frames in decibels, by name of what was tried."""
    first = HELD_OUT // (10 * PER_SHARD)
    kept = torch.cat(
        [torch.from_numpy(np.load(pool.make(first + k)).astype(np.float32)) for k in range(SHARDS)]
    )
    found: list[Trial] = [lambda network: _rendered(network, kept)]
    if pairs is not None:
        real = [sample for folder in sorted(pairs.iterdir()) for sample in _real(folder)]
        found.append(lambda network: {"real": _mean(gains(network, real))})
    return found


def gains(network: nn.Module, samples: list[tuple[Tensor, Tensor]]) -> list[float]:
    """Decibels that each sample (evidence, truth) gains over its blurred frame, in 8-bit codes."""
    found = []
    for evidence, truth in samples:
        device = next(network.parameters()).device
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            given = evidence[None].to(device, memory_format=torch.channels_last)
            change = network(given)[0].float().cpu()
        mended = evidence[FUSED] + share_of(evidence) * change
        found.append(_db(mended, truth) - _db(evidence[FRAME], truth))
    return found


def _rendered(network: nn.Module, kept: Tensor) -> dict[str, float]:
    evidence, truth = parted(kept)
    alone = evidence[:, ALONE].mean((1, 2, 3)) > 0.5
    several = list(zip(evidence[~alone], truth[~alone], strict=True))
    single = list(zip(evidence[alone], truth[alone], strict=True))
    return {"clips": _mean(gains(network, several)), "photos": _mean(gains(network, single))}


def _real(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Evidence and truth of every frame of a clip in `folder`/blur and `folder`/sharp."""
    blurred, sharp = (
        [_picture(path) for path in sorted((folder / kind).glob("*.png"))] for kind in ("blur", "sharp")
    )
    images = torch.stack([as_light(codes) for codes in blurred])
    times = tuple(Fraction(k, 25) for k in range(len(images)))
    clip = Clip(images=images, times=times, shutter=USUAL, kept=range(len(images)))
    motion, which = as_measured(clip), list(clip.kept)
    fused = fuse(clip, motion, FuseConfig(), which=which)
    truths = [torch.from_numpy(codes).permute(2, 0, 1) / 255 for codes in sharp]
    return [(seen(fused, clip, motion, (i, i)), truths[i]) for i in which]


def _picture(path: Path) -> Codes:
    return np.ascontiguousarray(np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1])


def _db(codes: Tensor, truth: Tensor) -> float:
    miss = (codes.clamp(0, 1) * 255).round() - truth * 255
    return float(10 * torch.log10(255**2 / miss.double().square().mean().clamp_min(1e-3)))


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))
