"""Validation of the fusion network: held-out rendered clips, and real pairs.

Nothing here takes a gradient.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.metrics.image import psnr_from_mse
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.types import Clip
from freezeframe.models.deblur.fusion_net import FRAME, FUSED, SINGLE_FRAME
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import fusion_input, residual_scale

from .fusion_data import (
    HELD_OUT_MOVER_SHARD,
    HELD_OUT_SHARD,
    ShardPool,
    measure_training_motion,
    split_sample,
    srgb_to_linear,
)
from .loop import Validator

NUM_VAL_SHARDS = 3  # shards of held-out clips
NUM_MOVER_SHARDS = 2  # shards of held-out clips of small fast movers
MIN_MOVER_PIXELS = 16.0  # pixels of a mask that is scored
REAL_SHUTTER = 0.8  # shutter fraction of the real pairs
MIN_MSE = 1e-3  # squared 8-bit code values; bounds PSNR to 78 dB


def validators(pool: ShardPool, val_pairs: Path | None) -> list[Validator]:
    """Validators that return the mean PSNR gain over the blurred frames in dB, by name of the data.

    The names that end in "inside" are of the pixels that movers cover during the exposure.
    """
    clips, movers = (
        torch.cat([_samples(pool, first + k) for k in range(number)])
        for first, number in ((HELD_OUT_SHARD, NUM_VAL_SHARDS), (HELD_OUT_MOVER_SHARD, NUM_MOVER_SHARDS))
    )
    results: list[Validator] = [
        lambda network: _score_rendered(network, clips),
        lambda network: _score_videos(network, movers, name="movers"),
    ]
    if val_pairs is not None:
        real = [sample for folder in sorted(val_pairs.iterdir()) for sample in _real_samples(folder)]
        results.append(lambda network: {"real": _mean(psnr_gains(network, real))})
    return results


def psnr_gains(network: nn.Module, samples: list[tuple[Tensor, Tensor]]) -> list[float]:
    """PSNR gain in dB of each sample (network input, ground truth) over its blurred frame.

    Outputs are rounded to 8 bits.
    """
    return [
        _gain(_restored(network, network_input), network_input[FRAME], truth)
        for network_input, truth in samples
    ]


def masked_psnr(encoded: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """PSNR in dB of [3, H, W] encoded in [0, 1], rounded to 8 bits; pixels weighted by `mask`, [1, H, W]."""
    error = ((encoded.clamp(0, 1) * 255).round() - truth * 255).double().square()
    mse = error.mean() if mask is None else (error * mask).sum() / (len(error) * mask.sum())
    return psnr_from_mse(max(MIN_MSE, float(mse)), peak=255.0)


def _samples(pool: ShardPool, number: int) -> Tensor:
    return torch.from_numpy(np.load(pool.make(number)).astype(np.float32))


def _score_rendered(network: nn.Module, samples: Tensor) -> dict[str, float]:
    network_input, truth, _ = split_sample(samples)
    is_single = network_input[:, SINGLE_FRAME].mean((1, 2, 3)) > 0.5
    single = list(zip(network_input[is_single], truth[is_single], strict=True))
    return {
        **_score_videos(network, samples[~is_single], name="clips"),
        "photos": _mean(psnr_gains(network, single)),
    }


def _score_videos(network: nn.Module, samples: Tensor, *, name: str) -> dict[str, float]:
    """Gain on the whole frames, and inside the masks of their movers."""
    whole, inside = [], []
    for network_input, truth, movers in zip(*split_sample(samples), strict=True):
        restored, frame = _restored(network, network_input), network_input[FRAME]
        whole.append(_gain(restored, frame, truth))
        if movers.sum() >= MIN_MOVER_PIXELS:
            inside.append(_gain(restored, frame, truth, movers))
    return {name: _mean(whole), f"{name} inside": _mean(inside)}


def _restored(network: nn.Module, network_input: Tensor) -> Tensor:
    device = next(network.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
        batch = network_input[None].to(device, memory_format=torch.channels_last)
        change: Tensor = network(batch)[0].float().cpu()
    return network_input[FUSED] + residual_scale(network_input) * change


def _gain(restored: Tensor, frame: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    return masked_psnr(restored, truth, mask) - masked_psnr(frame, truth, mask)


def _real_samples(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Network input and ground truth of every frame of a clip in `folder`/blur and `folder`/sharp."""
    blurred, sharp = (
        [_read_srgb(path) for path in sorted((folder / kind).glob("*.png"))] for kind in ("blur", "sharp")
    )
    images = torch.stack([srgb_to_linear(encoded) for encoded in blurred])
    times = tuple(Fraction(k, 25) for k in range(len(images)))
    clip = Clip(images=images, times=times, shutter=REAL_SHUTTER, owned=range(len(images)))
    motion, which = measure_training_motion(clip), list(clip.owned)
    fused = fuse(clip, motion, FuseConfig(), which=which)
    truths = [torch.from_numpy(encoded).permute(2, 0, 1) / 255 for encoded in sharp]
    return [(fusion_input(fused, clip, motion, (i, i)), truths[i]) for i in which]


def _read_srgb(path: Path) -> SrgbImage:
    return np.ascontiguousarray(np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1])


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))
