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
from freezeframe.pipeline.solvers.blur_correction import Correction, fit
from freezeframe.pipeline.solvers.observation import Observation
from freezeframe.pipeline.solvers.richardson_lucy import richardson_lucy

from .gate import quantiles

WHITE = 0.98  # light at and above which a sensor has lost count
SCALE = 0.045  # difference of square roots of light at which belief in a neighbour is down to a third
VICINITY = 3.0  # pixels around a point whose flows speak for it
SPREAD = 1.5  # pixels over which that difference is taken
HALF = 2  # times smaller is the picture on which frames are compared
FITTED = 430  # pixels of the longer side on which three numbers per frame are fitted
STEPS, STEPS_PER_PIXEL = 4.4, 0.66  # of deconvolution: longer blur needs more
FEWEST, MOST = 2, 16
NOISY = 0.012  # standard deviation of gamma-coded light at which half the steps are enough
NOISY_FOR_NETWORK = 0.03  # where the network follows: it takes grain out, but brings no detail back
CONTRAST = 1.2  # exponent: cameras flatten, so that sensors saw more contrast than the file's curve says
LONGER = 1.15  # the fit starts from ways too long: what blur is left in the neighbours pulls it short
PACE = 1.8  # over-relaxation: five such steps reach further than ten plain ones

Ways = Mapping[int, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """Sharpened frames, and how much each pixel was confirmed by others."""

    images: Tensor  # [K, 3, H, W] linear RGB
    confidence: Tensor  # [K, H, W] mean consistency of the neighbours, [0, 1]
    ways: Tensor  # [K, 2, H, W] pixels that each point travelled while the shutter was open


def fuse(clip: Clip, motion: Motion, config: FuseConfig, *, which: Sequence[int]) -> Fused:
    """Sharpen some frames of `clip` from the frames around them.

    Args:
        clip: Consecutive frames of one shot.
        motion: Flows between neighbours, velocities, shutter fraction.
        config: How far to look and how long to work.
        which: Positions in the clip of the frames to sharpen.
    """
    if not which:
        return Fused(images=clip.images[:0], confidence=clip.images[:0, 0], ways=motion.velocity[:0])
    images = clip.images.clamp_min(0).pow_(CONTRAST)
    near = sorted({j for i in which for j in _around(i, len(clip.images), config.radius)} | set(which))
    small = _Reduced(images, motion, scale=max(1, round(max(images.shape[2:]) / FITTED)))
    ways = {i: corrected_way(small, motion, i) for i in near}
    done = [sharpened(images, motion, ways, i, config=config) for i in which]
    return Fused(
        images=torch.stack([image for image, _ in done]).pow_(1 / CONTRAST),
        confidence=torch.stack([agreed for _, agreed in done]),
        ways=torch.stack([ways[i] for i in which]),
    )


def sharpened(
    images: Tensor, motion: Motion, ways: Ways, i: int, *, config: FuseConfig
) -> tuple[Tensor, Tensor]:
    """Frame `i` of [T, 3, H, W] sharpened, [3, H, W], and the confidence in it, [H, W]."""
    own = Observation(light=images[i], offset=None, way=ways[i], belief=unclipped(images[i]))
    others = [neighbour(images, motion, ways, (i, j)) for j in _around(i, len(images), config.radius)]
    length = torch.hypot(*ways[i])  # vector_norm takes a tenth of a second across planes
    sharp = richardson_lucy(
        images[i],
        [own, *(seen for seen, _ in others)],
        steps=config.iterations or steps_for(images[i], length, noisy=_noisy(config)),
        # Short blur is within what flow gets wrong: undo it half-heartedly or not at all.
        pace=PACE * (length / config.sure).clamp(max=1).square() * seen_to_move(motion, i),
        smooth=config.smooth,
    )
    agreed = [agreement for _, agreement in others] or [torch.zeros_like(length)]
    return sharp, torch.stack(agreed).mean(0)


def _noisy(config: FuseConfig) -> float:
    return NOISY if config.network == "none" else NOISY_FOR_NETWORK


def steps_for(image: Tensor, length: Tensor, *, noisy: float = NOISY) -> int:
    """How many steps a frame is worth: more for long blur, fewer where they would only raise noise.

    Args:
        image: [3, H, W] linear RGB.
        length: Of its blur. [H, W] pixels.
        noisy: Standard deviation of gamma-coded light at which half of them are enough.
    """
    long = quantiles(length[::4, ::4], 0.9)[0]
    noise = noise_level(gamma_luma(image).cpu().numpy())
    steps = (STEPS + STEPS_PER_PIXEL * long) / (1 + (noise / noisy) ** 2)
    return round(min(MOST, max(FEWEST, steps)))


def neighbour(
    images: Tensor, motion: Motion, ways: Ways, pair: tuple[int, int]
) -> tuple[Observation, Tensor]:
    """Frame j as a witness of frame i, and how well the two agree on frame i's grid, [H, W]."""
    i, j = pair
    back = motion.flows[j, i].shift
    there = reduced(motion.flows[i, j].shift, HALF) / HALF
    frame, other = (reduced(images[k], HALF) for k in pair)
    way, other_way = (reduced(ways[k], HALF) / HALF for k in pair)
    # The difference is spread over pixels anyway: half the size says as much, for a fifth of the time.
    agreed = consistency(frame, warp(other, there), way=way, other_way=warp(other_way, there))
    agreed = _enlarged(agreed, back.shape[1:])
    belief = warp(agreed[None], back)[0] * unclipped(images[j])
    return Observation(light=images[j], offset=back, way=ways[j], belief=belief), agreed


def reduced(field: Tensor, scale: int) -> Tensor:
    """Means of squares of `scale` pixels of [..., H, W]; the last ones may be cut."""
    height, width = field.shape[-2:]
    if scale == 1:
        return field
    if not field.is_cpu or field.requires_grad or height % scale or width % scale:
        return avg_pool2d(field, scale, ceil_mode=True)
    # OpenCV gives the same numbers in a tenth of the time.
    means = field.new_empty(*field.shape[:-2], height // scale, width // scale)
    into = means.view(-1, *means.shape[-2:]).numpy()
    for plane, small in zip(field.reshape(-1, height, width).numpy(), into, strict=True):
        cv2.resize(plane, small.shape[::-1], dst=small, interpolation=cv2.INTER_AREA)
    return means


def _enlarged(belief: Tensor, size: Sequence[int]) -> Tensor:
    """[H, W] again of what was `reduced` to half."""
    whole = interpolate(belief[None, None], scale_factor=HALF, mode="bilinear")
    return whole[0, 0, : size[0], : size[1]].contiguous()


def seen_to_move(motion: Motion, i: int) -> Tensor:
    """[H, W] in [0, 1]: whether frame `i`'s motion was seen at all, by at least one of its two flows.

    Where it was not, its way is a guess, and deconvolving along a guess draws what was never there.
    """
    near = [motion.flows[i, j].trust for j in (i - 1, i + 1) if (i, j) in motion.flows]
    if not near:
        return torch.ones_like(motion.velocity[i, 0])
    best = torch.stack(near).amax(0)
    share = torch.from_numpy(cv2.GaussianBlur(best.cpu().numpy(), (0, 0), VICINITY)).to(best)
    return ((share - 0.3) / 0.4).clamp(0, 1)


def consistency(frame: Tensor, other: Tensor, *, way: Tensor, other_way: Tensor) -> Tensor:
    """Belief that `other`, laid onto `frame`'s grid, shows the same scene under its own blur.

    The order of two blurs does not matter: B(way) other = B(other_way) frame where flow and ways are right.

    Args:
        frame: [3, H, W] linear RGB.
        other: [3, H, W] linear RGB.
        way: How `frame` was blurred. [2, H, W] pixels.
        other_way: How `other` was blurred. [2, H, W] pixels.

    Returns:
        [H, W] in [0, 1].
    """
    crossed = _root(blur(other, way)).sub_(_root(blur(frame, other_way)))
    difference = cv2.GaussianBlur(crossed.abs_().amax(0).cpu().numpy(), (0, 0), SPREAD)
    return torch.exp(-(torch.from_numpy(difference).to(frame.device) / SCALE).square())


def _root(light: Tensor) -> Tensor:
    """The square root of light, which makes photon noise even. In its memory."""
    return light.clamp_min_(0).sqrt_()


def unclipped(image: Tensor) -> Tensor:
    """[H, W] 0 where a recorded pixel is at white: there was more light than it says. Else 1."""
    return (image.amax(0) < WHITE).to(image)


class _Reduced:
    """Frames and their motion `scale` times smaller, each reduced once for all that ask."""

    def __init__(self, images: Tensor, motion: Motion, *, scale: int) -> None:
        self.scale = scale
        self.images = self._whole(images)
        self.velocity = self._whole(motion.velocity) / scale
        self._flows = motion.flows
        self._shifts: dict[tuple[int, int], Tensor] = {}

    def shift(self, pair: tuple[int, int]) -> Tensor:
        if pair not in self._shifts:
            self._shifts[pair] = self._whole(self._flows[pair].shift) / self.scale
        return self._shifts[pair]

    def _whole(self, field: Tensor) -> Tensor:
        """Without what is left over at the right and below."""
        height, width = (size // self.scale * self.scale for size in field.shape[-2:])
        return reduced(field[..., :height, :width], self.scale)


def corrected_way(small: _Reduced, motion: Motion, i: int) -> Tensor:
    """The way of every pixel of frame `i`, [2, H, W] pixels, fitted to what its neighbours say."""
    if len(small.images) == 1:
        return motion.shutter * motion.velocity[i]
    shutter = LONGER * motion.shutter
    correction = _correction(small, i, shutter=shutter).enlarged(small.scale)
    return correction.of(shutter * motion.velocity[i], motion.velocity[i])


def _correction(small: _Reduced, i: int, *, shutter: float) -> Correction:
    light, near = small.images, _around(i, len(small.images), 1)
    ways = {j: shutter * small.velocity[j] for j in (i, *near)}
    seen = []
    for j in near:
        there, back = small.shift((i, j)), small.shift((j, i))
        agreed = consistency(light[i], warp(light[j], there), way=ways[i], other_way=warp(ways[j], there))
        belief = warp(agreed[None], back)[0] * unclipped(light[j])
        seen.append(Observation(light=light[j], offset=back, way=ways[j], belief=belief))
    # Without the frame itself: what is left of its blur must not pass for sharpness.
    sharp = richardson_lucy(light[i], seen, steps=3, pace=torch.full_like(light[i][0], PACE), smooth=0)
    return fit(sharp, light[i], ways[i], small.velocity[i])


def _around(i: int, count: int, radius: int) -> list[int]:
    return [j for j in range(max(0, i - radius), min(count, i + radius + 1)) if j != i]
