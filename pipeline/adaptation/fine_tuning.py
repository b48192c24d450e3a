"""A clip teaches the network about itself: its own sharp frames, blurred as its own blurred ones were.

The camera, the grass and the shirts are those of this clip. What is learned is kept only if it wins on a part
of the picture that was held out: other frames show the same things again.

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
from freezeframe.pipeline.stages.fuse import RESPONSE_GAMMA, fuse
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

TRAINING = "training on this clip (seconds)"  # the stage, in words
SAMPLED_CLIPS, CLIP_LENGTH = 16, 5  # places of the clip looked at, and frames in each
MAX_SHARP_RATIO = 0.7  # share of the gate's threshold below which a frame can teach
MAX_SPEED = 40.0  # pixels per frame interval beyond which flow was guessing
SAMPLE_SIZE = 256  # pixels of a lesson's frames
PATCH_SIZE, BATCH_SIZE = 128, 8  # pixels of a patch; patches in a step
LEARNING_RATE = 1e-4  # learning rate: the network knows most already
INTERPOLATION = 0.25  # of what the weights moved: lessons are not quite the clip (Wortsman et al. 2022)
SAMPLE_INTERVAL = 8  # steps for which a lesson stays in the book
CRF_RANGE = (16, 29)  # constant rate factors that lessons are compressed at
VAL_SAMPLES = 16  # lessons that nothing is learned from
MIN_GAIN_DB = 0.05  # decibels on what was held out; less is chance


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationSet:
    """What a clip has to teach with."""

    sharp: Sequence[Tensor]  # each [3, H, W] linear RGB
    noise: float  # standard deviation of gamma-coded light in them, as filmed
    motions: Sequence[Tensor]  # velocities of its blurred frames, each [2, H, W] pixels per frame interval
    shutter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationResult:
    """What came of it."""

    network: FusionNet
    accepted: bool
    message: str


def adapt(
    network: FusionNet,
    source: Source,
    *,
    shutter: float,
    minutes: float,
    progress: ProgressCallback = null_progress,
) -> AdaptationResult:
    """Teach a copy of `network` with frames of `source`.

    Args:
        network: The one to start from.
        source: The clip.
        shutter: Exposure time over frame interval of the clip.
        minutes: Wall time to learn for.
        progress: Told of seconds that are over.

    Returns:
        The copy where it won on what was held out, else `network` itself, and why in a sentence.
    """
    adaptation_set = collect_adaptation_set(source, shutter=shutter)
    if len(adaptation_set.sharp) < 2 or not adaptation_set.motions:
        missing = "two sharp frames" if adaptation_set.motions else "a blurred frame"
        message = f"not adapted: the clip has not {missing} to teach with"
        return AdaptationResult(network=network, accepted=False, message=message)
    train_parts, val_parts = zip(*(train_val_split(picture) for picture in adaptation_set.sharp), strict=True)
    val_samples = [
        make_sample(val_parts, adaptation_set, rng=np.random.default_rng((1, k))) for k in range(VAL_SAMPLES)
    ]
    model = interpolate_weights(
        network, _fine_tune(network, train_parts, adaptation_set, seconds=60 * minutes, progress=progress)
    )
    before, after = (sum(psnr_gains(each, val_samples)) / len(val_samples) for each in (network, model))
    accepted = after > before + MIN_GAIN_DB
    message = f"{after - before:+.2f} dB on a part of its sharp frames that was held out"
    return AdaptationResult(
        network=model if accepted else network,
        accepted=accepted,
        message=f"adapted: {message}" if accepted else f"not adapted: {message} is no gain",
    )


def collect_adaptation_set(source: Source, *, shutter: float) -> AdaptationSet:
    """Sharp frames and the motions of blurred ones, from places spread over the clip."""
    sharp, noise, motions = [], [], []
    for run in source.sample_clips(SAMPLED_CLIPS, CLIP_LENGTH):
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
        gate = GateConfig()
        ratio = blur_ratio(extent(shutter * length, gate), run[middle].picture.size, gate)
        if ratio < MAX_SHARP_RATIO:
            sharp.append(images[middle])
            noise.append(noise_level(gamma_luma(images[middle]).cpu().numpy()))
        elif ratio >= 1 and float(length.max()) < MAX_SPEED:
            motions.append(velocity)
    return AdaptationSet(sharp=sharp, noise=float(np.mean(noise or [0])), motions=motions, shutter=shutter)


def train_val_split(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Two thirds of a picture to learn from, and the rest."""
    cut = 2 * picture.shape[2] // 3
    return picture[..., :cut], picture[..., cut:]


def make_sample(
    pictures: Sequence[Tensor], adaptation_set: AdaptationSet, *, rng: Generator
) -> tuple[Tensor, Tensor]:
    """Evidence [16, h, w] and truth [3, h, w] of a sharp frame, blurred along a motion of the clip."""
    picture = pictures[int(rng.integers(len(pictures)))]
    motion = adaptation_set.motions[int(rng.integers(len(adaptation_set.motions)))]
    # A codec wants even sides.
    size = [min(SAMPLE_SIZE, side // 2 * 2) for side in picture.shape[1:]]
    truth, velocity = (
        _random_crop(picture, size, rng),
        _random_crop(motion, size, rng) * float(rng.uniform(0.7, 1.3)),
    )
    shutter_error = float(rng.uniform(1 - SHUTTER_ERROR, 1 + SHUTTER_ERROR))
    clip = Clip(
        images=torch.stack(_render_frames(truth, velocity, adaptation_set, rng)),
        times=tuple(Fraction(k, 25) for k in range(CLIP_LENGTH)),
        shutter=min(1.0, shutter_error * adaptation_set.shutter),
        owned=range(CLIP_LENGTH),
    )
    measured, which = measure_training_motion(clip), [CLIP_LENGTH // 2]
    fused = fuse(clip, measured, FuseConfig(), which=which)
    return fusion_input(fused, clip, measured, (0, which[0])), to_encoded(truth.clamp(0, 1), SRGB)


def _render_frames(
    truth: Tensor, velocity: Tensor, adaptation_set: AdaptationSet, rng: Generator
) -> list[Tensor]:
    """`truth` in motion, as the clip's camera and a codec would have recorded it."""
    frames = []
    for t in range(-(CLIP_LENGTH // 2), CLIP_LENGTH // 2 + 1):
        moved = warp(truth, -t * velocity, method="catmull-rom").clamp_min(0)
        # In the light that the sensor saw, as the deconvolution takes it: else that is what would be learned.
        exposed = blur(moved**RESPONSE_GAMMA, adaptation_set.shutter * velocity).clamp(0, 1) ** (
            1 / RESPONSE_GAMMA
        )
        encoded = to_encoded(exposed, SRGB).permute(1, 2, 0).numpy()
        noisy = encoded + rng.normal(0, adaptation_set.noise, encoded.shape)
        frames.append((255 * noisy.clip(0, 1) + 0.5).astype(np.uint8))
    return [srgb_to_linear(frame) for frame in h264(frames, crf=int(rng.integers(*CRF_RANGE)))]


def _fine_tune(
    network: FusionNet,
    pictures: Sequence[Tensor],
    adaptation_set: AdaptationSet,
    *,
    seconds: float,
    progress: ProgressCallback,
) -> FusionNet:
    model = copy.deepcopy(network).train().requires_grad_(True)
    optimisers = Optimizers(model, lr=LEARNING_RATE)
    rng, samples, start_time = np.random.default_rng(0), list[Tensor](), time.monotonic()
    reported, total_seconds = 0, math.ceil(seconds)
    progress(0, total_seconds, TRAINING)
    for step in itertools.count():
        elapsed = (time.monotonic() - start_time) / seconds
        progress(int(min(1, elapsed) * total_seconds) - reported, total_seconds, TRAINING)
        reported = int(min(1, elapsed) * total_seconds)
        if elapsed >= 1:
            break
        if step % SAMPLE_INTERVAL == 0:
            samples.append(torch.cat(make_sample(pictures, adaptation_set, rng=rng)))
        batch = torch.stack(
            [_random_patch(samples[int(rng.integers(len(samples)))], rng) for _ in range(BATCH_SIZE)]
        )
        _training_step(model, optimisers, batch, lr_scale=1 - elapsed)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def interpolate_weights(network: FusionNet, model: FusionNet) -> FusionNet:
    """`model` with its weights moved back most of the way to those of `network`."""
    for own, known in zip(model.parameters(), network.parameters(), strict=True):
        own.copy_(torch.lerp(known, own, INTERPOLATION))
    return model


def _training_step(model: FusionNet, optimisers: Optimizers, batch: Tensor, *, lr_scale: float) -> None:
    evidence, truth = batch[:, :-3], batch[:, -3:]
    with torch.autocast(batch.device.type, dtype=torch.bfloat16):
        change = model(evidence.to(memory_format=torch.channels_last))
    model.zero_grad(set_to_none=True)
    fused = evidence[:, FUSED]
    charbonnier_spectral_loss(fused + change, truth, sample_weights(fused, truth)).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP_NORM)
    optimisers.step(lr_scale=lr_scale)


def _random_crop(image: Tensor, size: Sequence[int], rng: Generator) -> Tensor:
    """Any `size` pixels of [C, H, W]."""
    height, width = size
    top = int(rng.integers(image.shape[1] - height + 1))
    left = int(rng.integers(image.shape[2] - width + 1))
    return image[:, top : top + height, left : left + width]


def _random_patch(sample: Tensor, rng: Generator) -> Tensor:
    side = min(PATCH_SIZE, *sample.shape[1:])
    top = int(rng.integers(sample.shape[1] - side + 1))
    left = int(rng.integers(sample.shape[2] - side + 1))
    return augment_flip(sample[:, top : top + side, left : left + side], mirror=rng.random(NUM_FLIPS) < 0.5)
