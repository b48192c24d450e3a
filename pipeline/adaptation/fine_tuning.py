"""Test-time fine-tuning of the fusion network on the sharp frames of a clip, re-blurred synthetically.

Camera, scene and compression of the training samples are those of the clip. The fine-tuned weights are kept
only if they score higher on a held-out part of the frames; other frames would show the same content again.

Nothing here takes a gradient.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.blur.operator import blur
from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.synthesis.degradations.codec import h264
from freezeframe.data.synthesis.scene2d.patterns import Generator
from freezeframe.data.types import Clip, Source, stack_linear
from freezeframe.models.deblur.fusion_net import FUSED, FusionNet
from freezeframe.motion.diagnosis.diagnose import noise_level
from freezeframe.motion.flow.estimators import gamma_luma
from freezeframe.motion.flow.warp import warp
from freezeframe.pipeline.config import FuseConfig, GateConfig
from freezeframe.pipeline.stages.fuse import FUSE_PARAMS, fuse
from freezeframe.pipeline.stages.fusion_network import fusion_input
from freezeframe.pipeline.stages.gate import blur_ratio, extent
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress
from freezeframe.pipeline.training.fusion_data import (
    NUM_FLIPS,
    SHUTTER_ERROR,
    augment_flip,
    measure_training_motion,
    srgb_to_linear,
)
from freezeframe.pipeline.training.fusion_validation import psnr_gains
from freezeframe.pipeline.training.objective import (
    GRAD_CLIP_NORM,
    Optimizers,
    charbonnier_spectral_loss,
    sample_weights,
)

TRAINING = "training on this clip (seconds)"  # label of the progress bar


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneParams:
    """Tunables of test-time fine-tuning."""

    sampled_clips: int = 16  # short runs of frames, spread over the clip
    clip_length: int = 5  # consecutive frames in each run
    max_sharp_ratio: float = 0.7  # blur ratio below which a frame is sharp
    max_speed: float = 40.0  # pixels per frame interval; the flow of faster motion is unreliable
    sample_px: int = 256  # side of the frames of a training sample
    patch_px: int = 128  # side of a training patch
    batch_size: int = 8  # patches per step
    learning_rate: float = 1e-4  # small: the network is trained already
    interpolation: float = 0.25  # from the old to the new weights (Wortsman et al. 2022)
    sample_interval: int = 8  # steps from one new training sample to the next
    crf_range: tuple[int, int] = (16, 29)  # constant rate factors of the compression of the samples
    speed_scale: tuple[float, float] = (0.7, 1.3)  # random factor on the motion of a sample
    val_samples: int = 16  # held-out samples
    min_gain_db: float = 0.05  # decibels on the held-out samples; less is chance


FINE_TUNE_PARAMS = FineTuneParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationSet:
    """Training material of a clip."""

    sharp: Sequence[Tensor]  # sharp frames, [3, H, W] linear RGB each
    noise: float  # standard deviation of their gamma-coded noise
    motions: Sequence[Tensor]  # velocities of blurred frames, [2, H, W] pixels per frame interval each
    shutter: float  # exposure time over frame interval


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationResult:
    """Result of test-time fine-tuning."""

    network: FusionNet
    accepted: bool  # whether `network` is fine-tuned
    message: str


def fine_tune(  # noqa: PLR0913  # the network, the clip, the settings, and the callback
    network: FusionNet,
    source: Source,
    *,
    shutter: float,
    minutes: float,
    progress: ProgressCallback = null_progress,
    params: FineTuneParams = FINE_TUNE_PARAMS,
) -> AdaptationResult:
    """Fine-tune a copy of `network` on frames of `source`.

    Args:
        network: Initial weights.
        source: The clip.
        shutter: Exposure time over frame interval of the clip.
        minutes: Duration of the training.
        progress: Receives elapsed seconds.
        params: Tunables.

    Returns:
        The copy if it scores higher on held-out samples, else `network` itself.
    """
    adaptation_set = collect_adaptation_set(source, shutter=shutter, params=params)
    if len(adaptation_set.sharp) < 2 or not adaptation_set.motions:
        missing = "two sharp frames" if adaptation_set.motions else "a blurred frame"
        message = f"not fine-tuned: the clip has not {missing} to train on"
        return AdaptationResult(network=network, accepted=False, message=message)
    train_parts, val_parts = zip(*(train_val_split(picture) for picture in adaptation_set.sharp), strict=True)
    val_samples = [
        make_sample(val_parts, adaptation_set, rng=np.random.default_rng((1, k)), params=params)
        for k in range(params.val_samples)
    ]
    trained = train_copy(
        network, train_parts, adaptation_set, seconds=60 * minutes, progress=progress, params=params
    )
    model = interpolate_weights(network, trained, params.interpolation)
    before, after = (sum(psnr_gains(each, val_samples)) / len(val_samples) for each in (network, model))
    accepted = after > before + params.min_gain_db
    gain = f"{after - before:+.2f} dB on held-out parts of its sharp frames"
    return AdaptationResult(
        network=model if accepted else network,
        accepted=accepted,
        message=f"fine-tuned: {gain}" if accepted else f"not fine-tuned: {gain} is no gain",
    )


def collect_adaptation_set(
    source: Source, *, shutter: float, params: FineTuneParams = FINE_TUNE_PARAMS
) -> AdaptationSet:
    """Sharp frames, and the motions of blurred ones, from short runs spread over the clip."""
    sharp, noise, motions = [], [], []
    gate = GateConfig()
    for run in source.sample_clips(params.sampled_clips, params.clip_length):
        if len(run) < 3:
            continue
        images = stack_linear(run)
        times = tuple(frame.time for frame in run)
        motion = measure_training_motion(
            Clip(images=images, times=times, shutter=shutter, owned=range(len(run)))
        )
        middle = len(run) // 2
        velocity = motion.velocity[middle]
        length = torch.hypot(*velocity[:, ::4, ::4])
        ratio = blur_ratio(extent(shutter * length), run[middle].picture.size, gate)
        if ratio < params.max_sharp_ratio:
            sharp.append(images[middle])
            noise.append(noise_level(gamma_luma(images[middle]).cpu().numpy()))
        elif ratio >= 1 and float(length.max()) < params.max_speed:
            motions.append(velocity)
    return AdaptationSet(sharp=sharp, noise=float(np.mean(noise or [0])), motions=motions, shutter=shutter)


def train_val_split(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Split [C, H, W] into its left two thirds, for training, and the rest."""
    cut = 2 * picture.shape[2] // 3
    return picture[..., :cut], picture[..., cut:]


def make_sample(
    pictures: Sequence[Tensor],
    adaptation_set: AdaptationSet,
    *,
    rng: Generator,
    params: FineTuneParams = FINE_TUNE_PARAMS,
) -> tuple[Tensor, Tensor]:
    """Network input [16, h, w] and truth [3, h, w] of a sharp frame, blurred along a motion of the clip."""
    picture = pictures[int(rng.integers(len(pictures)))]
    motion = adaptation_set.motions[int(rng.integers(len(adaptation_set.motions)))]
    # The codec needs even sides.
    size = [min(params.sample_px, side // 2 * 2) for side in picture.shape[1:]]
    truth, velocity = (
        _random_crop(picture, size, rng),
        _random_crop(motion, size, rng) * float(rng.uniform(*params.speed_scale)),
    )
    shutter_error = float(rng.uniform(1 - SHUTTER_ERROR, 1 + SHUTTER_ERROR))
    length = params.clip_length
    clip = Clip(
        images=torch.stack(_render_frames(truth, velocity, adaptation_set, rng, params)),
        times=tuple(Fraction(k, 25) for k in range(length)),
        shutter=min(1.0, shutter_error * adaptation_set.shutter),
        owned=range(length),
    )
    measured, which = measure_training_motion(clip), [length // 2]
    fused = fuse(clip, measured, FuseConfig(), which=which)
    return fusion_input(fused, clip, measured, (0, which[0])), to_encoded(truth.clamp(0, 1), SRGB)


def _render_frames(
    truth: Tensor, velocity: Tensor, adaptation_set: AdaptationSet, rng: Generator, params: FineTuneParams
) -> list[Tensor]:
    """`truth` in motion, with the blur, noise and compression of the clip."""
    frames, gamma = [], FUSE_PARAMS.response_gamma
    for t in range(-(params.clip_length // 2), params.clip_length // 2 + 1):
        moved = warp(truth, -t * velocity, method="catmull-rom").clamp_min(0)
        # Integrate the light as the deconvolution models it; else the network would learn the difference.
        exposed = blur(moved**gamma, adaptation_set.shutter * velocity).clamp(0, 1) ** (1 / gamma)
        encoded = to_encoded(exposed, SRGB).permute(1, 2, 0).numpy()
        noisy = encoded + rng.normal(0, adaptation_set.noise, encoded.shape)
        frames.append((255 * noisy.clip(0, 1) + 0.5).astype(np.uint8))
    return [srgb_to_linear(frame) for frame in h264(frames, crf=int(rng.integers(*params.crf_range)))]


def train_copy(  # noqa: PLR0913  # the network, the samples, the settings, and the callback
    network: FusionNet,
    pictures: Sequence[Tensor],
    adaptation_set: AdaptationSet,
    *,
    seconds: float,
    progress: ProgressCallback = null_progress,
    params: FineTuneParams = FINE_TUNE_PARAMS,
) -> FusionNet:
    """Train a copy of `network` for some seconds, at least one step.

    Args:
        network: Initial weights; unchanged.
        pictures: Sharp frames, [3, H, W] linear RGB each.
        adaptation_set: Motion, noise and shutter of the samples.
        seconds: Duration; the learning rate falls linearly to 0.
        progress: Receives elapsed seconds.
        params: Tunables.
    """
    model = copy.deepcopy(network).train().requires_grad_(True)
    optimizers = Optimizers(model, lr=params.learning_rate)
    rng, samples, start_time = np.random.default_rng(0), list[Tensor](), time.monotonic()
    reported, total_seconds = 0, math.ceil(seconds)
    progress(0, total_seconds, TRAINING)
    for step in itertools.count():
        elapsed = (time.monotonic() - start_time) / seconds
        progress(int(min(1, elapsed) * total_seconds) - reported, total_seconds, TRAINING)
        reported = int(min(1, elapsed) * total_seconds)
        if elapsed >= 1:
            break
        if step % params.sample_interval == 0:
            samples.append(torch.cat(make_sample(pictures, adaptation_set, rng=rng, params=params)))
        patches = [
            _random_patch(samples[int(rng.integers(len(samples)))], rng, params.patch_px)
            for _ in range(params.batch_size)
        ]
        _training_step(model, optimizers, torch.stack(patches), lr_scale=1 - elapsed)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def interpolate_weights(network: FusionNet, model: FusionNet, fraction: float) -> FusionNet:
    """`model` with its weights interpolated: `network` at 0, `model` at 1. In place."""
    for weights, initial in zip(model.parameters(), network.parameters(), strict=True):
        weights.copy_(torch.lerp(initial, weights, fraction))
    return model


def _training_step(model: FusionNet, optimizers: Optimizers, batch: Tensor, *, lr_scale: float) -> None:
    network_input, truth = batch[:, :-3], batch[:, -3:]
    with torch.autocast(batch.device.type, dtype=torch.bfloat16):
        residual = model(network_input.to(memory_format=torch.channels_last))
    model.zero_grad(set_to_none=True)
    fused = network_input[:, FUSED]
    loss = charbonnier_spectral_loss(fused + residual, truth, sample_weights(fused, truth))
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP_NORM)
    optimizers.step(lr_scale=lr_scale)


def _random_crop(image: Tensor, size: Sequence[int], rng: Generator) -> Tensor:
    """A random part of `size` (height, width) of [C, H, W]."""
    height, width = size
    top = int(rng.integers(image.shape[1] - height + 1))
    left = int(rng.integers(image.shape[2] - width + 1))
    return image[:, top : top + height, left : left + width]


def _random_patch(sample: Tensor, rng: Generator, side: int) -> Tensor:
    side = min(side, *sample.shape[1:])
    patch = _random_crop(sample, (side, side), rng)
    return augment_flip(patch, mirror=rng.random(NUM_FLIPS) < 0.5)
