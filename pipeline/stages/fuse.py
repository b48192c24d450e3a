"""The fuse stage: multi-frame deconvolution of every frame from itself and its neighbours.

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

BlurVectors = Mapping[int, Tensor]  # by frame, [2, H, W] pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseParams:
    """Tunables of the multi-frame deconvolution."""

    response_gamma: float = (
        1.2  # exponent: cameras compress contrast more than the file's transfer function says
    )
    saturation: float = 0.98  # linear value from which a pixel may be clipped
    step_size: float = 1.8  # over-relaxation: five such steps converge further than ten of size 1
    base_steps: float = 4.4  # iterations without blur
    steps_per_pixel: float = 0.66  # iterations per pixel of blur length
    min_blur_px: float = 0.7  # pixels: in a box around what moves, shorter blur counts as rest
    min_steps: int = 2
    max_steps: int = 16
    half_steps_noise: float = 0.012  # standard deviation of gamma-coded noise that halves the iterations
    half_steps_noise_network: float = 0.03  # with the fusion network, which removes noise but adds no detail
    difference_scale: float = 0.045  # difference of square roots of linear RGB at a confidence of 1/e
    difference_sigma: float = 1.5  # pixels; smoothing of that difference
    comparison_scale: int = 2  # downsampling of the images that are compared
    observed_sigma: float = 3.0  # pixels; smoothing of the confidence of the flow
    initial_shutter_scale: float = (
        1.15  # initialise 15 % long: residual blur in the neighbours biases the fit short
    )
    fit_size_px: int = 430  # longer side of the images on which the blur correction is fitted
    fit_steps: int = 3  # Richardson-Lucy iterations before the fit


FUSE_PARAMS = FuseParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedFrames:
    """Deconvolved frames."""

    images: Tensor  # [K, 3, H, W] linear RGB
    confidence: Tensor  # [K, H, W] mean re-blur consistency of the neighbours, [0, 1]
    blur_vectors: Tensor  # [K, 2, H, W] pixels


def fuse(
    clip: Clip,
    motion: Motion,
    config: FuseConfig,
    *,
    which: Sequence[int],
    params: FuseParams = FUSE_PARAMS,
) -> FusedFrames:
    """Deconvolve some frames of `clip`, with the frames around them as further observations.

    Args:
        clip: Consecutive frames of one shot.
        motion: Flows between neighbours, velocities, shutter fraction.
        config: Number of neighbours and iterations.
        which: Positions in the clip of the frames to deconvolve.
        params: Tunables.
    """
    if not which:
        return FusedFrames(
            images=clip.images[:0], confidence=clip.images[:0, 0], blur_vectors=motion.velocity[:0]
        )
    images = clip.images.clamp_min(0).pow_(params.response_gamma)
    neighbours = sorted(
        {j for i in which for j in _neighbours(i, len(clip.images), config.radius)} | set(which)
    )
    scale = max(1, round(max(clip.whole_size) / params.fit_size_px))
    small = _PyramidLevel(images, motion, scale=scale)
    blur_vectors = {i: refine_blur_vectors(small, motion, i, params) for i in neighbours}
    # Beside what moves, a box shows what stands still: it needs no iterations.
    min_blur = 0.0 if clip.box is None else params.min_blur_px
    results = [
        deconvolve_frame(images, motion, blur_vectors, i, config=config, params=params, min_blur=min_blur)
        for i in which
    ]
    return FusedFrames(
        images=torch.stack([image for image, _ in results]).pow_(1 / params.response_gamma),
        confidence=torch.stack([confidence for _, confidence in results]),
        blur_vectors=torch.stack([blur_vectors[i] for i in which]),
    )


def deconvolve_frame(  # noqa: PLR0913  # a clip, its motion, a frame, the settings
    images: Tensor,
    motion: Motion,
    blur_vectors: BlurVectors,
    i: int,
    *,
    config: FuseConfig,
    params: FuseParams = FUSE_PARAMS,
    min_blur: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Deconvolve frame `i` of [T, 3, H, W]: the result, [3, H, W], and its confidence, [H, W].

    Shorter blur than `min_blur` pixels does not count for the number of iterations.
    """
    own = Observation(
        linear=images[i],
        offset=None,
        blur_vector=blur_vectors[i],
        weight=unsaturated_mask(images[i], params),
    )
    others = [
        make_observation(images, motion, blur_vectors, (i, j), params)
        for j in _neighbours(i, len(images), config.radius)
    ]
    length = torch.hypot(*blur_vectors[i])  # vector_norm takes a tenth of a second across planes
    half_noise = params.half_steps_noise if config.network == "none" else params.half_steps_noise_network
    # Short blur is within the error of the flow: correct it in part or not at all.
    strength = (length / config.full_strength_px).clamp(max=1).square()
    sharp = richardson_lucy(
        images[i],
        [own, *(observation for observation, _ in others)],
        steps=config.iterations
        or iteration_count(images[i], length, half_noise=half_noise, params=params, min_blur=min_blur),
        step_size=params.step_size * strength * motion_observed_mask(motion, i, params),
        params=RichardsonLucyParams(tv_weight=config.tv_weight),
    )
    agreements = [agreement for _, agreement in others] or [torch.zeros_like(length)]
    return sharp, torch.stack(agreements).mean(0)


def iteration_count(
    image: Tensor,
    length: Tensor,
    *,
    half_noise: float,
    params: FuseParams = FUSE_PARAMS,
    min_blur: float = 0.0,
) -> int:
    """Number of iterations: more for long blur, fewer for noise, which every iteration amplifies.

    Args:
        image: [3, H, W] linear RGB.
        length: Blur length. [H, W] pixels.
        half_noise: Standard deviation of gamma-coded noise that halves the iterations.
        params: Base, slope and limits.
        min_blur: Pixels; shorter blur does not count.
    """
    sampled = length[::4, ::4]
    counted = sampled[sampled >= min_blur]
    long_blur = quantiles(counted, 0.9)[0] if len(counted) else 0.0
    noise = noise_level(gamma_luma(image).cpu().numpy())
    steps = (params.base_steps + params.steps_per_pixel * long_blur) / (1 + (noise / half_noise) ** 2)
    return round(min(params.max_steps, max(params.min_steps, steps)))


def make_observation(
    images: Tensor, motion: Motion, blur_vectors: BlurVectors, pair: tuple[int, int], params: FuseParams
) -> tuple[Observation, Tensor]:
    """Frame j of the pair (i, j) as an observation of frame i, and their consistency, [H, W] of frame i."""
    i, j = pair
    scale = params.comparison_scale
    backward = motion.flows[j, i].uv
    forward = downsample(motion.flows[i, j].uv, scale) / scale
    frame, other = (downsample(images[k], scale) for k in pair)
    blur_vector, other_blur_vector = (downsample(blur_vectors[k], scale) / scale for k in pair)
    # The difference is smoothed anyway: half the size gives the same consistency in a fifth of the time.
    agreement = consistency(
        frame,
        warp(other, forward),
        blur_vector=blur_vector,
        other_blur_vector=warp(other_blur_vector, forward),
        params=params,
    )
    agreement = _upsample(agreement, backward.shape[1:], scale)
    weight = warp(agreement[None], backward)[0] * unsaturated_mask(images[j], params)
    return Observation(
        linear=images[j], offset=backward, blur_vector=blur_vectors[j], weight=weight
    ), agreement


def downsample(field: Tensor, scale: int) -> Tensor:
    """Means over blocks of `scale` x `scale` pixels of [..., H, W]; the last blocks may be smaller."""
    height, width = field.shape[-2:]
    if scale == 1:
        return field
    if not field.is_cpu or field.requires_grad or height % scale or width % scale:
        return avg_pool2d(field, scale, ceil_mode=True)
    # OpenCV gives the same values in a tenth of the time.
    means = field.new_empty(*field.shape[:-2], height // scale, width // scale)
    out = means.view(-1, *means.shape[-2:]).numpy()
    for plane, small in zip(field.reshape(-1, height, width).numpy(), out, strict=True):
        cv2.resize(plane, small.shape[::-1], dst=small, interpolation=cv2.INTER_AREA)
    return means


def _upsample(confidence: Tensor, size: Sequence[int], scale: int) -> Tensor:
    upsampled = interpolate(confidence[None, None], scale_factor=scale, mode="bilinear")
    return upsampled[0, 0, : size[0], : size[1]].contiguous()


def motion_observed_mask(motion: Motion, i: int, params: FuseParams = FUSE_PARAMS) -> Tensor:
    """[H, W] in [0, 1]: whether at least one of frame `i`'s two flows is reliable.

    Without a reliable flow the blur vector is unknown, and deconvolution would hallucinate detail.
    """
    confidences = [motion.flows[i, j].confidence for j in (i - 1, i + 1) if (i, j) in motion.flows]
    if not confidences:
        return torch.ones_like(motion.velocity[i, 0])
    best = torch.stack(confidences).amax(0)
    smoothed = cv2.GaussianBlur(best.cpu().numpy(), (0, 0), params.observed_sigma)
    return ((torch.from_numpy(smoothed).to(best) - 0.3) / 0.4).clamp(0, 1)


def consistency(
    frame: Tensor,
    other: Tensor,
    *,
    blur_vector: Tensor,
    other_blur_vector: Tensor,
    params: FuseParams = FUSE_PARAMS,
) -> Tensor:
    """Re-blur consistency of `frame` and `other`, warped to the grid of `frame`.

    Blurs commute: with correct flow and blur vectors, `other` under the frame's blur equals `frame` under the
    other's blur.

    Args:
        frame: [3, H, W] linear RGB.
        other: [3, H, W] linear RGB.
        blur_vector: Blur vectors of `frame`. [2, H, W] pixels.
        other_blur_vector: Blur vectors of `other`. [2, H, W] pixels.
        params: Scale and smoothing of the difference.

    Returns:
        [H, W] in [0, 1].
    """
    cross_blur_difference = _sqrt(blur(other, blur_vector)).sub_(_sqrt(blur(frame, other_blur_vector)))
    difference = cv2.GaussianBlur(
        cross_blur_difference.abs_().amax(0).cpu().numpy(), (0, 0), params.difference_sigma
    )
    return torch.exp(-(torch.from_numpy(difference).to(frame.device) / params.difference_scale).square())


def _sqrt(linear: Tensor) -> Tensor:
    """Square root, which makes the variance of photon noise uniform. In place."""
    return linear.clamp_min_(0).sqrt_()


def unsaturated_mask(image: Tensor, params: FuseParams = FUSE_PARAMS) -> Tensor:
    """[H, W] 0 where a channel is saturated, else 1: the true value of a clipped pixel is unknown."""
    return (image.amax(0) < params.saturation).to(image)


class _PyramidLevel:
    """Images and motion at 1 / `scale` of the resolution; each flow is downsampled once."""

    def __init__(self, images: Tensor, motion: Motion, *, scale: int) -> None:
        self.scale = scale
        self.images = self._downsample(images)
        self.velocity = self._downsample(motion.velocity) / scale
        self._flows = motion.flows
        self._uvs: dict[tuple[int, int], Tensor] = {}

    def uv(self, pair: tuple[int, int]) -> Tensor:
        if pair not in self._uvs:
            self._uvs[pair] = self._downsample(self._flows[pair].uv) / self.scale
        return self._uvs[pair]

    def _downsample(self, field: Tensor) -> Tensor:
        """Whole blocks only; the remainder at the right and bottom is cut off."""
        height, width = (size // self.scale * self.scale for size in field.shape[-2:])
        return downsample(field[..., :height, :width], self.scale)


def refine_blur_vectors(small: _PyramidLevel, motion: Motion, i: int, params: FuseParams) -> Tensor:
    """Blur vectors of frame `i`, [2, H, W] pixels, fitted to its neighbours."""
    if len(small.images) == 1:
        return motion.shutter * motion.velocity[i]
    shutter = params.initial_shutter_scale * motion.shutter
    correction = _fit_correction(small, i, shutter=shutter, params=params).rescale(small.scale)
    return correction.apply(shutter * motion.velocity[i], motion.velocity[i])


def _fit_correction(small: _PyramidLevel, i: int, *, shutter: float, params: FuseParams) -> BlurCorrection:
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
            params=params,
        )
        weight = warp(agreement[None], backward)[0] * unsaturated_mask(linear[j], params)
        observations.append(
            Observation(linear=linear[j], offset=backward, blur_vector=blur_vectors[j], weight=weight)
        )
    # Without the frame itself: its residual blur would bias the fit.
    sharp = richardson_lucy(
        linear[i],
        observations,
        steps=params.fit_steps,
        step_size=torch.full_like(linear[i][0], params.step_size),
        params=RichardsonLucyParams(tv_weight=0),
    )
    return fit_blur_correction(sharp, linear[i], blur_vectors[i], small.velocity[i])


def _neighbours(i: int, count: int, radius: int) -> list[int]:
    return [j for j in range(max(0, i - radius), min(count, i + radius + 1)) if j != i]
