"""The fuse stage: every frame sharpened from itself and the frames around it.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from freezeframe.data.blur.operator import blur
from freezeframe.data.types import Clip, Motion
from freezeframe.motion.diagnosis.diagnose import noise_level
from freezeframe.motion.flow.estimators import gamma_luma
from freezeframe.motion.flow.warp import warp
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.solvers.blur_correction import BlurCorrection, fit_blur_correction
from freezeframe.pipeline.solvers.iteration import RichardsonLucyParams
from freezeframe.pipeline.solvers.observation import Observation
from freezeframe.pipeline.solvers.richardson_lucy import richardson_lucy

from .gate import quantiles

SATURATION = 0.98  # light at and above which a sensor has lost count
DIFFERENCE_SCALE = (
    0.045  # difference of square roots of light at which belief in a neighbour is down to a third
)
OBSERVED_SIGMA = 3.0  # pixels around a point whose flows speak for it
DIFFERENCE_SIGMA = 1.5  # pixels over which that difference is taken
DOWNSAMPLING = 2  # times smaller is the picture on which frames are compared
FIT_SIZE = 430  # pixels of the longer side on which three numbers per frame are fitted
BASE_STEPS, STEPS_PER_PIXEL = 4.4, 0.66  # of deconvolution: longer blur needs more
MIN_STEPS, MAX_STEPS = 2, 16
HALF_STEPS_NOISE = 0.012  # standard deviation of gamma-coded light at which half the steps are enough
HALF_STEPS_NOISE_NETWORK = 0.03  # where the network follows: it takes grain out, but brings no detail back
RESPONSE_GAMMA = (
    1.2  # exponent: cameras flatten, so that sensors saw more contrast than the file's curve says
)
INITIAL_SHUTTER_SCALE = (
    1.15  # the fit starts from ways too long: what blur is left in the neighbours pulls it short
)
STEP_SIZE = 1.8  # over-relaxation: five such steps reach further than ten plain ones

BlurVectors = Mapping[int, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedFrames:
    """Sharpened frames, and how much each pixel was confirmed by others."""

    images: Tensor  # [K, 3, H, W] linear RGB
    confidence: Tensor  # [K, H, W] mean consistency of the neighbours, [0, 1]
    blur_vectors: Tensor  # [K, 2, H, W] pixels that each point travelled while the shutter was open


def fuse(clip: Clip, motion: Motion, config: FuseConfig, *, which: Sequence[int]) -> FusedFrames:
    """Sharpen some frames of `clip` from the frames around them.

    Args:
        clip: Consecutive frames of one shot.
        motion: Flows between neighbours, velocities, shutter fraction.
        config: How far to look and how long to work.
        which: Positions in the clip of the frames to sharpen.
    """
    if not which:
        return FusedFrames(
            images=clip.images[:0], confidence=clip.images[:0, 0], blur_vectors=motion.velocity[:0]
        )
    images = clip.images.clamp_min(0).pow_(RESPONSE_GAMMA)
    neighbours = sorted(
        {j for i in which for j in _neighbours(i, len(clip.images), config.radius)} | set(which)
    )
    small = _PyramidLevel(images, motion, scale=max(1, round(max(images.shape[2:]) / FIT_SIZE)))
    blur_vectors = {i: refine_blur_vectors(small, motion, i) for i in neighbours}
    results = [deconvolve_frame(images, motion, blur_vectors, i, config=config) for i in which]
    return FusedFrames(
        images=torch.stack([image for image, _ in results]).pow_(1 / RESPONSE_GAMMA),
        confidence=torch.stack([confidence for _, confidence in results]),
        blur_vectors=torch.stack([blur_vectors[i] for i in which]),
    )


def deconvolve_frame(
    images: Tensor, motion: Motion, blur_vectors: BlurVectors, i: int, *, config: FuseConfig
) -> tuple[Tensor, Tensor]:
    """Frame `i` of [T, 3, H, W] sharpened, [3, H, W], and the confidence in it, [H, W]."""
    own = Observation(
        linear=images[i], offset=None, blur_vector=blur_vectors[i], weight=unsaturated_mask(images[i])
    )
    others = [
        make_observation(images, motion, blur_vectors, (i, j))
        for j in _neighbours(i, len(images), config.radius)
    ]
    length = torch.hypot(*blur_vectors[i])  # vector_norm takes a tenth of a second across planes
    sharp = richardson_lucy(
        images[i],
        [own, *(observation for observation, _ in others)],
        steps=config.iterations or iteration_count(images[i], length, half_noise=_half_noise(config)),
        # Short blur is within what flow gets wrong: undo it half-heartedly or not at all.
        step_size=STEP_SIZE
        * (length / config.full_strength_px).clamp(max=1).square()
        * motion_observed_mask(motion, i),
        params=RichardsonLucyParams(tv_weight=config.tv_weight),
    )
    agreements = [agreement for _, agreement in others] or [torch.zeros_like(length)]
    return sharp, torch.stack(agreements).mean(0)


def _half_noise(config: FuseConfig) -> float:
    return HALF_STEPS_NOISE if config.network == "none" else HALF_STEPS_NOISE_NETWORK


def iteration_count(image: Tensor, length: Tensor, *, half_noise: float = HALF_STEPS_NOISE) -> int:
    """How many steps a frame is worth: more for long blur, fewer where they would only raise noise.

    Args:
        image: [3, H, W] linear RGB.
        length: Of its blur. [H, W] pixels.
        half_noise: Standard deviation of gamma-coded light at which half of them are enough.
    """
    long_blur = quantiles(length[::4, ::4], 0.9)[0]
    noise = noise_level(gamma_luma(image).cpu().numpy())
    steps = (BASE_STEPS + STEPS_PER_PIXEL * long_blur) / (1 + (noise / half_noise) ** 2)
    return round(min(MAX_STEPS, max(MIN_STEPS, steps)))


def make_observation(
    images: Tensor, motion: Motion, blur_vectors: BlurVectors, pair: tuple[int, int]
) -> tuple[Observation, Tensor]:
    """Frame j as a witness of frame i, and how well the two agree on frame i's grid, [H, W]."""
    i, j = pair
    backward = motion.flows[j, i].uv
    forward = downsample(motion.flows[i, j].uv, DOWNSAMPLING) / DOWNSAMPLING
    frame, other = (downsample(images[k], DOWNSAMPLING) for k in pair)
    blur_vector, other_blur_vector = (downsample(blur_vectors[k], DOWNSAMPLING) / DOWNSAMPLING for k in pair)
    # The difference is spread over pixels anyway: half the size says as much, for a fifth of the time.
    agreement = consistency(
        frame,
        warp(other, forward),
        blur_vector=blur_vector,
        other_blur_vector=warp(other_blur_vector, forward),
    )
    agreement = _upsample(agreement, backward.shape[1:])
    weight = warp(agreement[None], backward)[0] * unsaturated_mask(images[j])
    return Observation(
        linear=images[j], offset=backward, blur_vector=blur_vectors[j], weight=weight
    ), agreement


def downsample(field: Tensor, scale: int) -> Tensor:
    """Means of squares of `scale` pixels of [..., H, W]; the last ones may be cut."""
    height, width = field.shape[-2:]
    if scale == 1:
        return field
    if not field.is_cpu or field.requires_grad or height % scale or width % scale:
        return avg_pool2d(field, scale, ceil_mode=True)
    # OpenCV gives the same numbers in a tenth of the time.
    means = field.new_empty(*field.shape[:-2], height // scale, width // scale)
    out = means.view(-1, *means.shape[-2:]).numpy()
    for plane, small in zip(field.reshape(-1, height, width).numpy(), out, strict=True):
        cv2.resize(plane, small.shape[::-1], dst=small, interpolation=cv2.INTER_AREA)
    return means


def _upsample(confidence: Tensor, size: Sequence[int]) -> Tensor:
    """[H, W] again of what was `downsample` to half."""
    upsampled = interpolate(confidence[None, None], scale_factor=DOWNSAMPLING, mode="bilinear")
    return upsampled[0, 0, : size[0], : size[1]].contiguous()


def motion_observed_mask(motion: Motion, i: int) -> Tensor:
    """[H, W] in [0, 1]: whether frame `i`'s motion was seen at all, by at least one of its two flows.

    Where it was not, its way is a guess, and deconvolving along a guess draws what was never there.
    """
    confidences = [motion.flows[i, j].confidence for j in (i - 1, i + 1) if (i, j) in motion.flows]
    if not confidences:
        return torch.ones_like(motion.velocity[i, 0])
    best = torch.stack(confidences).amax(0)
    observed_fraction = torch.from_numpy(cv2.GaussianBlur(best.cpu().numpy(), (0, 0), OBSERVED_SIGMA)).to(
        best
    )
    return ((observed_fraction - 0.3) / 0.4).clamp(0, 1)


def consistency(frame: Tensor, other: Tensor, *, blur_vector: Tensor, other_blur_vector: Tensor) -> Tensor:
    """Belief that `other`, laid onto `frame`'s grid, shows the same scene under its own blur.

    The order of two blurs does not matter: B(way) other = B(other_way) frame where flow and ways are right.

    Args:
        frame: [3, H, W] linear RGB.
        other: [3, H, W] linear RGB.
        blur_vector: How `frame` was blurred. [2, H, W] pixels.
        other_blur_vector: How `other` was blurred. [2, H, W] pixels.

    Returns:
        [H, W] in [0, 1].
    """
    cross_blur_difference = _sqrt(blur(other, blur_vector)).sub_(_sqrt(blur(frame, other_blur_vector)))
    difference = cv2.GaussianBlur(
        cross_blur_difference.abs_().amax(0).cpu().numpy(), (0, 0), DIFFERENCE_SIGMA
    )
    return torch.exp(-(torch.from_numpy(difference).to(frame.device) / DIFFERENCE_SCALE).square())


def _sqrt(linear: Tensor) -> Tensor:
    """The square root of light, which makes photon noise even. In its memory."""
    return linear.clamp_min_(0).sqrt_()


def unsaturated_mask(image: Tensor) -> Tensor:
    """[H, W] 0 where a recorded pixel is at white: there was more light than it says. Else 1."""
    return (image.amax(0) < SATURATION).to(image)


class _PyramidLevel:
    """Frames and their motion `scale` times smaller, each reduced once for all that ask."""

    def __init__(self, images: Tensor, motion: Motion, *, scale: int) -> None:
        self.scale = scale
        self.images = self._downsample(images)
        self.velocity = self._downsample(motion.velocity) / scale
        self._flows = motion.flows
        self._shifts: dict[tuple[int, int], Tensor] = {}

    def uv(self, pair: tuple[int, int]) -> Tensor:
        if pair not in self._shifts:
            self._shifts[pair] = self._downsample(self._flows[pair].uv) / self.scale
        return self._shifts[pair]

    def _downsample(self, field: Tensor) -> Tensor:
        """Without what is left over at the right and below."""
        height, width = (size // self.scale * self.scale for size in field.shape[-2:])
        return downsample(field[..., :height, :width], self.scale)


def refine_blur_vectors(small: _PyramidLevel, motion: Motion, i: int) -> Tensor:
    """The way of every pixel of frame `i`, [2, H, W] pixels, fitted to what its neighbours say."""
    if len(small.images) == 1:
        return motion.shutter * motion.velocity[i]
    shutter = INITIAL_SHUTTER_SCALE * motion.shutter
    correction = _correction(small, i, shutter=shutter).rescale(small.scale)
    return correction.apply(shutter * motion.velocity[i], motion.velocity[i])


def _correction(small: _PyramidLevel, i: int, *, shutter: float) -> BlurCorrection:
    linear, neighbours = small.images, _neighbours(i, len(small.images), 1)
    blur_vectors = {j: shutter * small.velocity[j] for j in (i, *neighbours)}
    observations = []
    for j in neighbours:
        forward, backward = small.uv((i, j)), small.uv((j, i))
        agreement = consistency(
            linear[i],
            warp(linear[j], forward),
            blur_vector=blur_vectors[i],
            other_blur_vector=warp(blur_vectors[j], forward),
        )
        weight = warp(agreement[None], backward)[0] * unsaturated_mask(linear[j])
        observations.append(
            Observation(linear=linear[j], offset=backward, blur_vector=blur_vectors[j], weight=weight)
        )
    # Without the frame itself: what is left of its blur must not pass for sharpness.
    sharp = richardson_lucy(
        linear[i],
        observations,
        steps=3,
        step_size=torch.full_like(linear[i][0], STEP_SIZE),
        params=RichardsonLucyParams(tv_weight=0),
    )
    return fit_blur_correction(sharp, linear[i], blur_vectors[i], small.velocity[i])


def _neighbours(i: int, count: int, radius: int) -> list[int]:
    return [j for j in range(max(0, i - radius), min(count, i + radius + 1)) if j != i]
