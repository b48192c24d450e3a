"""Metrics of each method on one sequence, frame by frame, from the files that it wrote."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from freezeframe.data.datasets.paired import Comparison, FrameSequence
from freezeframe.data.metrics.aligned import aligned_psnr_ssim
from freezeframe.data.metrics.image import psnr_srgb, rms_gradient, ssim_srgb, temporal_flicker
from freezeframe.data.metrics.temporal import reblur_consistency
from freezeframe.data.srgb import SrgbImage, srgb_to_linear
from freezeframe.data.types import Flow
from freezeframe.motion.flow.estimators import dis_flow
from freezeframe.motion.flow.metrics import tof, warping_error

from .methods import estimate_blur_vectors, read

PSNR_CAP_DB = 100.0  # PSNR in dB of a perfect frame, so that means stay finite

Metrics = dict[str, float]
"""Values by name; undefined ones, such as the flow error of the first frame, are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrameReference:
    """Reference data of one frame, the same for every method."""

    blurred: Tensor  # [3, H, W] linear RGB
    blur_vectors: Tensor  # [2, H, W] pixels
    truths: list[SrgbImage]
    flow: Flow | None  # from the previous ground-truth frame to this one

    @property
    def truth(self) -> SrgbImage:
        """The ground truth at mid-exposure."""
        return self.truths[len(self.truths) // 2]


def score_sequence(
    sequence: FrameSequence,
    outputs: Mapping[str, Sequence[Path]],
    *,
    comparison: Comparison,
    shutter: float,
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, list[Metrics]]:
    """Metrics of every frame of a sequence, by method.

    Args:
        sequence: The blurred frames and their ground truth.
        outputs: The pictures of each method.
        comparison: The protocol of PSNR and SSIM.
        shutter: Exposure time over frame interval, for re-blurring.
        on_frame: Called after each frame.
    """
    metrics: dict[str, list[Metrics]] = {name: [] for name in outputs}
    recent: dict[str, deque[Tensor]] = {name: deque(maxlen=3) for name in outputs}
    previous: Tensor | None = None
    blurred = (srgb_to_linear(read(path)) for path in sequence.blurred)
    for t, (image, blur_vectors) in enumerate(estimate_blur_vectors(blurred, shutter=shutter)):
        truths = [read(path) for path in sequence.truths[t]]
        current = srgb_to_linear(truths[len(truths) // 2])
        flow = dis_flow(previous, current) if previous is not None else None
        reference = _FrameReference(blurred=image, blur_vectors=blur_vectors, truths=truths, flow=flow)
        for name, paths in outputs.items():
            encoded = read(paths[t])
            recent[name].append(srgb_to_linear(encoded))
            metrics[name].append(
                _spatial_metrics(encoded, reference, comparison)
                | _temporal_metrics(list(recent[name]), reference)
            )
        previous = current
        on_frame()
    return metrics


def mean_over_frames(metrics: Mapping[str, Sequence[Metrics]], *, baseline: str) -> dict[str, Metrics]:
    """Mean metrics of each method over a sequence; gains and warping are relative to `baseline`."""
    means = {name: _mean(frames) for name, frames in metrics.items()}
    baseline_warping = means[baseline].get("warping", 0.0)
    for name, frames in metrics.items():
        mean = means[name]
        gains = [one["psnr"] - other["psnr"] for one, other in zip(frames, metrics[baseline], strict=True)]
        mean["worst"], mean["best"] = min(gains), max(gains)
        true_sharpness = mean.pop("sharpness_truth")
        mean["sharpness"] = mean["sharpness"] / true_sharpness if true_sharpness else 1.0
        if "flicker" in mean:
            mean["flicker"] = math.sqrt(mean["flicker"])
        if "warping" in mean:
            mean["warping"] = (
                mean["warping"] / baseline_warping if name != baseline and baseline_warping else 1.0
            )
    return means


def mean_over_sequences(sequences: Sequence[Metrics]) -> Metrics:
    """Mean metrics over sequences; the extremes of the gains, the maximum of the memory."""
    extremes = {"worst": min, "best": max, "megabytes": max}
    return _mean(sequences) | {
        name: extreme(sequence[name] for sequence in sequences)
        for name, extreme in extremes.items()
        if all(name in sequence for sequence in sequences)
    }


def _spatial_metrics(encoded: SrgbImage, reference: _FrameReference, comparison: Comparison) -> Metrics:
    psnr, ssim = _scores(encoded, reference, comparison)
    metrics = {
        "psnr": min(psnr, PSNR_CAP_DB),
        "ssim": ssim,
        "sharpness": rms_gradient(encoded),
        "sharpness_truth": rms_gradient(reference.truth),
    }
    if reference.blur_vectors.any():
        consistent = reblur_consistency(srgb_to_linear(encoded), reference.blurred, reference.blur_vectors)
        metrics["reblur"] = min(consistent, PSNR_CAP_DB)
    return metrics


def _scores(encoded: SrgbImage, reference: _FrameReference, comparison: Comparison) -> tuple[float, float]:
    """PSNR in dB and SSIM."""
    if comparison == "aligned":
        return aligned_psnr_ssim(encoded, reference.truth)
    best = max(reference.truths, key=lambda truth: psnr_srgb(encoded, truth))
    return psnr_srgb(encoded, best), ssim_srgb(encoded, best)


def _temporal_metrics(recent: list[Tensor], reference: _FrameReference) -> Metrics:
    metrics: Metrics = {}
    if reference.flow is not None:
        pair = recent[-2], recent[-1]
        metrics = {
            "tof": tof(pair, reference.flow, flow=dis_flow),
            "warping": warping_error(pair, reference.flow),
        }
    if len(recent) == 3:
        metrics["flicker"] = temporal_flicker(torch.stack(recent)) ** 2
    return metrics


def _mean(parts: Sequence[Metrics]) -> Metrics:
    names = list(dict.fromkeys(name for part in parts for name in part))
    values_by_name = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: sum(values) / len(values) for name, values in values_by_name.items()}
