"""How good each method's pictures of one take are, judged frame by frame from the files it wrote."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from freezeframe.data.datasets.paired import Rule, Take
from freezeframe.data.metrics.aligned import aligned_scores
from freezeframe.data.metrics.image import Codes, flicker, psnr_codes, sharpness, ssim_codes
from freezeframe.data.metrics.temporal import light_of, reblur_consistency, tof, warping_error
from freezeframe.data.types import Flow
from freezeframe.motion.flow.estimators import dis_flow

from .methods import read, ways

PERFECT = 100.0  # dB, in place of infinity: a perfect frame must leave a mean finite

Figures = dict[str, float]
"""Values by name; what cannot be told of a frame, such as the motion to one before the first, is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """What is known of one frame, whoever restored it."""

    blurred: Tensor  # [3, H, W] linear RGB
    way: Tensor  # [2, H, W] pixels
    truths: list[Codes]
    flow: Flow | None  # from the true frame before to this one

    @property
    def truth(self) -> Codes:
        """The one in the middle of the exposure."""
        return self.truths[len(self.truths) // 2]


def judge(
    take: Take,
    found: Mapping[str, Sequence[Path]],
    *,
    rule: Rule,
    shutter: float,
    tell: Callable[[], None] = lambda: None,
) -> dict[str, list[Figures]]:
    """Figures of every frame of a take, by method.

    Args:
        take: The blurred frames and their truth.
        found: Each method's pictures of these frames.
        rule: How a picture is compared with its truth.
        shutter: Exposure time over frame interval, for the way along which results are blurred again.
        tell: Called after each frame.
    """
    figures: dict[str, list[Figures]] = {name: [] for name in found}
    recent: dict[str, deque[Tensor]] = {name: deque(maxlen=3) for name in found}
    before: Tensor | None = None
    blurred = (light_of(read(path)) for path in take.blurred)
    for t, (image, way) in enumerate(ways(blurred, shutter=shutter)):
        truths = [read(path) for path in take.truths[t]]
        now = light_of(truths[len(truths) // 2])
        flow = dis_flow(before, now) if before is not None else None
        moment = _Moment(blurred=image, way=way, truths=truths, flow=flow)
        for name, paths in found.items():
            codes = read(paths[t])
            recent[name].append(light_of(codes))
            figures[name].append(_still(codes, moment, rule) | _moving(list(recent[name]), moment))
        before = now
        tell()
    return figures


def over_frames(figures: Mapping[str, Sequence[Figures]], *, given: str) -> dict[str, Figures]:
    """Each method's figures of a whole take, of the method `given` as the one that does nothing."""
    means = {name: _mean(frames) for name, frames in figures.items()}
    still = means[given].get("warping", 0.0)
    for name, frames in figures.items():
        mean = means[name]
        gains = [one["psnr"] - none["psnr"] for one, none in zip(frames, figures[given], strict=True)]
        mean["worst"], mean["best"] = min(gains), max(gains)
        slope = mean.pop("sharpness of truth")
        mean["sharpness"] = mean["sharpness"] / slope if slope else 1.0
        if "flicker" in mean:
            mean["flicker"] = math.sqrt(mean["flicker"])
        if "warping" in mean:
            mean["warping"] = mean["warping"] / still if name != given and still else 1.0
    return means


def over_takes(takes: Sequence[Figures]) -> Figures:
    """The mean of several takes' figures; of gains the worst and best, of memory the most."""
    ends = {"worst": min, "best": max, "megabytes": max}
    return _mean(takes) | {
        name: end(take[name] for take in takes)
        for name, end in ends.items()
        if all(name in take for take in takes)
    }


def _still(codes: Codes, moment: _Moment, rule: Rule) -> Figures:
    decibel, alike = _scores(codes, moment, rule)
    found = {
        "psnr": min(decibel, PERFECT),
        "ssim": alike,
        "sharpness": sharpness(codes),
        "sharpness of truth": sharpness(moment.truth),
    }
    if moment.way.any():
        consistent = reblur_consistency(light_of(codes), moment.blurred, moment.way)
        found["reblur"] = min(consistent, PERFECT)
    return found


def _scores(codes: Codes, moment: _Moment, rule: Rule) -> tuple[float, float]:
    """PSNR in dB and SSIM."""
    if rule == "aligned":
        return aligned_scores(codes, moment.truth)
    best = max(moment.truths, key=lambda truth: psnr_codes(codes, truth))
    return psnr_codes(codes, best), ssim_codes(codes, best)


def _moving(recent: list[Tensor], moment: _Moment) -> Figures:
    found: Figures = {}
    if moment.flow is not None:
        pair = recent[-2], recent[-1]
        found = {"tof": tof(pair, moment.flow, flow=dis_flow), "warping": warping_error(pair, moment.flow)}
    if len(recent) == 3:
        found["flicker"] = flicker(torch.stack(recent)) ** 2
    return found


def _mean(parts: Sequence[Figures]) -> Figures:
    names = list(dict.fromkeys(name for part in parts for name in part))
    given = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: sum(values) / len(values) for name, values in given.items()}
