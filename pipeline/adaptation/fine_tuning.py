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
from freezeframe.data.color import SRGB, to_signal
from freezeframe.data.synthesis.degradations.camera_isp import h264
from freezeframe.data.synthesis.scene2d.patterns import Chance
from freezeframe.data.types import Clip, Source, stack_light
from freezeframe.models.deblur.fusion_net import FUSED, MultiFrame
from freezeframe.motion.diagnosis.diagnose import noise_level
from freezeframe.motion.flow.estimators import gamma_luma
from freezeframe.motion.flow.warp import warp
from freezeframe.pipeline.config import FuseConfig, GateConfig
from freezeframe.pipeline.stages.fuse import CONTRAST, fuse
from freezeframe.pipeline.stages.fusion_network import seen
from freezeframe.pipeline.stages.gate import excess, extent
from freezeframe.pipeline.support.progress import Advance, quiet
from freezeframe.pipeline.training.fusion_data import MIRRORS, MISJUDGED, as_light, as_measured, turned
from freezeframe.pipeline.training.fusion_validation import gains
from freezeframe.pipeline.training.objective import CLIPPED, Optimisers, loss, worth

TRAINING = "training on this clip (seconds)"  # the stage, in words
RUNS, LENGTH = 16, 5  # places of the clip looked at, and frames in each
SHARP = 0.7  # share of the gate's threshold below which a frame can teach
LONGEST = 40.0  # pixels per frame interval beyond which flow was guessing
SIDE = 256  # pixels of a lesson's frames
PATCH, SIZE = 128, 8  # pixels of a patch; patches in a step
PACE = 1e-4  # learning rate: the network knows most already
TAKEN = 0.25  # of what the weights moved: lessons are not quite the clip (Wortsman et al. 2022)
REUSED = 8  # steps for which a lesson stays in the book
RATES = (16, 29)  # constant rate factors that lessons are compressed at
EXAM = 16  # lessons that nothing is learned from
LEAST_GAIN = 0.05  # decibels on what was held out; less is chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What a clip has to teach with."""

    sharp: Sequence[Tensor]  # each [3, H, W] linear RGB
    noise: float  # standard deviation of gamma-coded light in them, as filmed
    motions: Sequence[Tensor]  # velocities of its blurred frames, each [2, H, W] pixels per frame interval
    shutter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What came of it."""

    network: MultiFrame
    kept: bool
    told: str


def adapt(
    network: MultiFrame, source: Source, *, shutter: float, minutes: float, progress: Advance = quiet
) -> Adapted:
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
    lessons = lessons_of(source, shutter=shutter)
    if len(lessons.sharp) < 2 or not lessons.motions:
        missing = "two sharp frames" if lessons.motions else "a blurred frame"
        told = f"not adapted: the clip has not {missing} to teach with"
        return Adapted(network=network, kept=False, told=told)
    taught, held = zip(*(divided(picture) for picture in lessons.sharp), strict=True)
    exam = [lesson(held, lessons, rng=np.random.default_rng((1, k))) for k in range(EXAM)]
    pupil = between(network, _taught(network, taught, lessons, seconds=60 * minutes, progress=progress))
    before, after = (sum(gains(each, exam)) / len(exam) for each in (network, pupil))
    kept = after > before + LEAST_GAIN
    told = f"{after - before:+.2f} dB on a part of its sharp frames that was held out"
    return Adapted(
        network=pupil if kept else network,
        kept=kept,
        told=f"adapted: {told}" if kept else f"not adapted: {told} is no gain",
    )


def lessons_of(source: Source, *, shutter: float) -> Lessons:
    """Sharp frames and the motions of blurred ones, from places spread over the clip."""
    sharp, noise, motions = [], [], []
    for run in source.glimpses(RUNS, LENGTH):
        if len(run) < 3:
            continue
        images = stack_light(run)
        times = tuple(frame.time for frame in run)
        motion = as_measured(Clip(images=images, times=times, shutter=shutter, kept=range(len(run))))
        middle = len(run) // 2
        velocity = motion.velocity[middle]
        length = torch.hypot(*velocity[:, ::4, ::4])
        gate = GateConfig()
        blurred = excess(extent(shutter * length, gate), run[middle].picture.size, gate)
        if blurred < SHARP:
            sharp.append(images[middle])
            noise.append(noise_level(gamma_luma(images[middle]).cpu().numpy()))
        elif blurred >= 1 and float(length.max()) < LONGEST:
            motions.append(velocity)
    return Lessons(sharp=sharp, noise=float(np.mean(noise or [0])), motions=motions, shutter=shutter)


def divided(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Two thirds of a picture to learn from, and the rest."""
    cut = 2 * picture.shape[2] // 3
    return picture[..., :cut], picture[..., cut:]


def lesson(pictures: Sequence[Tensor], lessons: Lessons, *, rng: Chance) -> tuple[Tensor, Tensor]:
    """Evidence [16, h, w] and truth [3, h, w] of a sharp frame, blurred along a motion of the clip."""
    picture = pictures[int(rng.integers(len(pictures)))]
    motion = lessons.motions[int(rng.integers(len(lessons.motions)))]
    # A codec wants even sides.
    size = [min(SIDE, side // 2 * 2) for side in picture.shape[1:]]
    truth, velocity = _piece(picture, size, rng), _piece(motion, size, rng) * float(rng.uniform(0.7, 1.3))
    wrong = float(rng.uniform(1 - MISJUDGED, 1 + MISJUDGED))
    clip = Clip(
        images=torch.stack(_filmed(truth, velocity, lessons, rng)),
        times=tuple(Fraction(k, 25) for k in range(LENGTH)),
        shutter=min(1.0, wrong * lessons.shutter),
        kept=range(LENGTH),
    )
    measured, which = as_measured(clip), [LENGTH // 2]
    fused = fuse(clip, measured, FuseConfig(), which=which)
    return seen(fused, clip, measured, (0, which[0])), to_signal(truth.clamp(0, 1), SRGB)


def _filmed(truth: Tensor, velocity: Tensor, lessons: Lessons, rng: Chance) -> list[Tensor]:
    """`truth` in motion, as the clip's camera and a codec would have recorded it."""
    frames = []
    for t in range(-(LENGTH // 2), LENGTH // 2 + 1):
        moved = warp(truth, -t * velocity, method="catmull-rom").clamp_min(0)
        # In the light that the sensor saw, as the deconvolution takes it: else that is what would be learned.
        gathered = blur(moved**CONTRAST, lessons.shutter * velocity).clamp(0, 1) ** (1 / CONTRAST)
        codes = to_signal(gathered, SRGB).permute(1, 2, 0).numpy()
        grainy = codes + rng.normal(0, lessons.noise, codes.shape)
        frames.append((255 * grainy.clip(0, 1) + 0.5).astype(np.uint8))
    return [as_light(frame) for frame in h264(frames, crf=int(rng.integers(*RATES)))]


def _taught(
    network: MultiFrame, pictures: Sequence[Tensor], lessons: Lessons, *, seconds: float, progress: Advance
) -> MultiFrame:
    pupil = copy.deepcopy(network).train().requires_grad_(True)
    optimisers = Optimisers(pupil, pace=PACE)
    rng, book, begun = np.random.default_rng(0), list[Tensor](), time.monotonic()
    told, whole = 0, math.ceil(seconds)
    progress(0, whole, TRAINING)
    for step in itertools.count():
        passed = (time.monotonic() - begun) / seconds
        progress(int(min(1, passed) * whole) - told, whole, TRAINING)
        told = int(min(1, passed) * whole)
        if passed >= 1:
            break
        if step % REUSED == 0:
            book.append(torch.cat(lesson(pictures, lessons, rng=rng)))
        batch = torch.stack([_turned_patch(book[int(rng.integers(len(book)))], rng) for _ in range(SIZE)])
        _learn(pupil, optimisers, batch, share=1 - passed)
    return pupil.eval().requires_grad_(False)


@torch.no_grad()
def between(network: MultiFrame, pupil: MultiFrame) -> MultiFrame:
    """`pupil` with its weights moved back most of the way to those of `network`."""
    for own, known in zip(pupil.parameters(), network.parameters(), strict=True):
        own.copy_(torch.lerp(known, own, TAKEN))
    return pupil


def _learn(pupil: MultiFrame, optimisers: Optimisers, batch: Tensor, *, share: float) -> None:
    evidence, truth = batch[:, :-3], batch[:, -3:]
    with torch.autocast(batch.device.type, dtype=torch.bfloat16):
        change = pupil(evidence.to(memory_format=torch.channels_last))
    pupil.zero_grad(set_to_none=True)
    fused = evidence[:, FUSED]
    loss(fused + change, truth, worth(fused, truth)).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(pupil.parameters(), CLIPPED)
    optimisers.step(share=share)


def _piece(image: Tensor, size: Sequence[int], rng: Chance) -> Tensor:
    """Any `size` pixels of [C, H, W]."""
    height, width = size
    top = int(rng.integers(image.shape[1] - height + 1))
    left = int(rng.integers(image.shape[2] - width + 1))
    return image[:, top : top + height, left : left + width]


def _turned_patch(page: Tensor, rng: Chance) -> Tensor:
    side = min(PATCH, *page.shape[1:])
    top = int(rng.integers(page.shape[1] - side + 1))
    left = int(rng.integers(page.shape[2] - side + 1))
    return turned(page[:, top : top + side, left : left + side], mirror=rng.random(MIRRORS) < 0.5)
