"""Where a fit begins: near enough to the answer that walking downhill finds it.

A mean of blurred frames is a blurred scene, and a camera at rest explains that well: so the first scene is
painted from the sharpest frames, and each exposure's own motion is first looked for, not walked to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from freezeframe.splatting.camera.trajectory import SplineTrack

from .losses import photometric, tones
from .optimizer import Fit

LUCKY = 8.0  # exponent of a frame's sharpness: a tenth sharper counts twice
LONGEST = 24.0  # pixels of blur that are looked for
DIRECTIONS = 8  # of half a circle: an exposure looks the same from end to start


def sharpness(images: Tensor, weights: Tensor) -> Tensor:
    """[T] mean squared steps between neighbouring tones of [T, 3, H, W], where weights [T, H, W] are."""
    tone = tones(images).mean(1)
    across, down = tone.diff(dim=2)[:, 1:], tone.diff(dim=1)[:, :, 1:]
    kept = weights[:, 1:, 1:]
    return ((across.square() + down.square()) * kept).sum((1, 2)) / kept.sum((1, 2)).clamp_min(1)


def lucky_weights(images: Tensor, weights: Tensor) -> Tensor:
    """[T, H, W] weights with which the sharpest frames paint, and others where those do not look.

    Takes no gradient.
    """
    sharp = sharpness(images, weights)
    share = (sharp / sharp.max().clamp_min(1e-12)) ** LUCKY
    return weights * share.clamp_min(1e-4)[:, None, None]


@torch.no_grad()
def look_for_motion(fit: Fit, track: SplineTrack) -> None:
    """Set each exposure's turn to the best of many, seen against the scene as it is now.

    The turn is straight and even; which way round is left to the spline.
    """
    for frame in range(len(fit.footage)):
        own = track.drift(frame)
        answers = [(_misfit(fit, track, frame, motion - own), motion) for motion in _motions(own)]
        _, best = min(answers, key=lambda answer: answer[0])
        track.sway[frame, 0, :2] = best - own


def _motions(own: Tensor) -> Sequence[Tensor]:
    """Turns, [2] pixels from opening to closing, on the own one's side of the circle."""
    lengths = [0.0, 1.5, 3.0, 5.0, 7.5, 10.5, 14.0, 18.5, LONGEST]
    angles = [math.pi * k / DIRECTIONS for k in range(DIRECTIONS)]
    ways = [own.new_tensor([math.cos(a), math.sin(a)]) * length for a in angles for length in lengths]
    return [own, *(way if float(way @ own) >= 0 else -way for way in ways)]


def _misfit(fit: Fit, track: SplineTrack, frame: int, sway: Tensor) -> float:
    before = track.sway[frame, 0, :2].clone()
    track.sway[frame, 0, :2] = sway
    answer = fit.reblurred(frame)[None]
    track.sway[frame, 0, :2] = before
    part = slice(frame, frame + 1)
    return float(photometric(answer, fit.small.images[part], fit.small.weights[part]))
