"""Training task of the shutter network: the exposure time of rendered camera pans.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.pans import Pan, PanDistribution, make_pan, shutter_density
from freezeframe.models.deblur.shutter_net import FRACTIONS, FRAMES, NUM_FEATURES, SIDE, ShutterNet
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.shutter.patches import extract_patches
from freezeframe.pipeline.stages.flows import adjacent_flows

from .fusion_data import HELD_OUT_SEED, save_array, srgb_to_linear
from .loop import Validator
from .objective import is_matrix_weight

INITIAL_CLIPS = 64  # clips before the first step; one more is added every step
PATCHES_STORED = 48  # stored patches of a frame
PATCHES_PER_SAMPLE = 24  # patches of a training sample
CLIP_BYTES = 10**6  # approximate size on disk
NUM_VAL_CLIPS = 40  # held-out clips
TARGET_STD = 0.035  # standard deviation of the soft targets in shutter fractions: the limit of precision
_PATCH_VALUES = FRAMES * SIDE * SIDE
_ROW_VALUES = PATCHES_STORED * (_PATCH_VALUES + NUM_FEATURES)


@dataclass(frozen=True, slots=True)
class ShutterTask:
    """Estimate the shutter fraction from patches of moving pictures."""

    pictures: Sequence[SrgbImage]
    folder: Path  # cache of rendered clips
    batch_size: int
    num_clips: int
    seed: int
    uses_muon = staticmethod(is_matrix_weight)

    def network(self) -> nn.Module:
        return ShutterNet()

    def batch(self, step: int, *, rank: int) -> Tensor:
        """[B, 24 * (3 * 32 * 32 + 4) + 1]: patches with their features, and the shutter fraction."""
        rng = np.random.default_rng((self.seed, rank, step, 9))
        available = min(self.num_clips, INITIAL_CLIPS + step)
        chosen: list[Tensor] = []
        while len(chosen) < self.batch_size:
            stored = self._clip(int(rng.integers(available)))
            if len(stored):
                frame = np.array(stored[rng.integers(len(stored))], np.float32)
                chosen.append(_augment(torch.from_numpy(frame), rng))
        return torch.stack(chosen)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Cross-entropy with a narrow Gaussian around the true shutter fraction."""
        patch_rows = batch[:, :-1].reshape(len(batch) * PATCHES_PER_SAMPLE, _PATCH_VALUES + NUM_FEATURES)
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            pictures = patch_rows[:, :_PATCH_VALUES].reshape(-1, FRAMES, SIDE, SIDE)
            logits = model(pictures.to(memory_format=torch.channels_last), patch_rows[:, _PATCH_VALUES:])
        net = cast(ShutterNet, getattr(model, "module", model))  # unwraps DistributedDataParallel
        log_probs = net.combine(logits.reshape(len(batch), PATCHES_PER_SAMPLE, -1)) + _log_prior().to(batch)
        total: Tensor = -(soft_targets(batch[:, -1]) * log_probs.log_softmax(1)).sum(1).mean()
        return total

    def validators(self) -> list[Validator]:
        held_out = [make_pan(HELD_OUT_SEED + k, self.pictures) for k in range(NUM_VAL_CLIPS)]
        return [lambda network: shutter_errors(network, held_out)]

    def _clip(self, number: int) -> npt.NDArray[np.float16]:
        """Patches, features and shutter fraction of the frames of a clip [T, L]; rendered if missing."""
        path = self.folder / f"pan_{number:06d}.npy"
        if not path.exists():
            save_array(encode_clip(make_pan(number, self.pictures), seed=number), path)
        stored: npt.NDArray[np.float16] = np.load(path, mmap_mode="r")
        return stored


def encode_clip(clip: Pan, *, seed: int) -> npt.NDArray[np.float16]:
    """Patches, features and shutter fraction of every frame with enough patches, [T, L]."""
    images = torch.stack([srgb_to_linear(frame) for frame in clip.frames])
    rows = [
        np.concatenate(
            [each.pixels[:PATCHES_STORED].flatten(1), each.features[:PATCHES_STORED]],
            axis=1,
            dtype=np.float16,
        ).ravel()
        for each in extract_patches(images, adjacent_flows(images, dis_pair), seed=seed)
        if len(each.pixels) >= PATCHES_STORED
    ]
    shutters = np.full((len(rows), 1), clip.shutter, np.float16)
    return np.concatenate([np.reshape(rows, (len(rows), _ROW_VALUES)), shutters], axis=1, dtype=np.float16)


def soft_targets(shutter: Tensor) -> Tensor:
    """[B] shutter fractions as probabilities [B, K] of `FRACTIONS`."""
    off = (shutter[:, None] - torch.tensor(FRACTIONS).to(shutter)) / TARGET_STD
    return torch.softmax(-off.square() / 2, dim=1)


def shutter_errors(network: nn.Module, clips: Sequence[Pan]) -> dict[str, float]:
    """Negative mean absolute error of the shutter fraction, over all clips and over the compressed ones."""
    net = cast(ShutterNet, network)
    errors: list[tuple[bool, float]] = []
    for clip in clips:
        images = torch.stack([srgb_to_linear(frame) for frame in clip.frames])
        patch_groups = extract_patches(images, adjacent_flows(images, dis_pair))
        if patch_groups:
            with torch.no_grad():
                logits = torch.cat([net(each.pixels, each.features) for each in patch_groups])
                estimate = FRACTIONS[int(net.combine(logits).argmax())]
            errors.append((clip.crf is not None, abs(estimate - clip.shutter)))
    compressed = [error for is_compressed, error in errors if is_compressed]
    return {"all": -mean(error for _, error in errors), "compressed": -mean(compressed)}


@cache
def _log_prior() -> Tensor:
    """[K] log prior of `FRACTIONS` in the training clips; with it the network learns the likelihood."""
    shutters = np.linspace(PanDistribution().min_shutter, 1, 2000)
    density_values = torch.from_numpy(shutter_density(shutters))
    return (density_values @ soft_targets(torch.from_numpy(shutters)) / density_values.sum()).log().float()


def _augment(row: Tensor, rng: np.random.Generator) -> Tensor:
    """A random subset of the patches of a frame; flipped, time-reversed, inverted and noisy at random."""
    patch_rows = row[:-1].reshape(PATCHES_STORED, _PATCH_VALUES + NUM_FEATURES)[
        torch.from_numpy(rng.permutation(PATCHES_STORED)[:PATCHES_PER_SAMPLE])
    ]
    pictures, features = (
        patch_rows[:, :_PATCH_VALUES].reshape(-1, FRAMES, SIDE, SIDE),
        patch_rows[:, _PATCH_VALUES:],
    )
    flip, reverse, negative, noisy = (rng.random(4) < (0.5, 0.5, 0.5, 0.3)).tolist()
    if flip:
        pictures = pictures.flip(2)
    if reverse:
        pictures, features = pictures.flip(3).flip(1), features[:, [0, 1, 3, 2]]
    if negative:
        pictures = -pictures
    if noisy:
        grain = torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32))
        pictures = pictures + float(rng.uniform(0, 0.15)) * grain
    return torch.cat([torch.cat([pictures.flatten(1), features], 1).flatten(), row[-1:]])
