"""Camera path of one shot, and the mask of its static part.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from freezeframe.data.types import CameraPath, Flow
from freezeframe.motion.camera.homography import estimate_homography, fit_homography, homography_to_flow
from freezeframe.motion.camera.rotation_path import (
    average_rotations,
    camera_path,
    fit_rotation,
    homography_residual,
)
from freezeframe.motion.camera.segmentation import detect_overlays, segment_movers
from freezeframe.pipeline.support.limits.deadline import DeadlineCheck, no_deadline

LOOP_STRIDE = 4  # frame distance of the registered pairs beside neighbours

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticMaskConfig:
    """Mask of independent motion and overlays."""

    threshold: float = 0.5  # probability from which a pixel is masked
    margin_px: int = 3  # pixels around independent motion, in addition to half its blur length
    motion_quantile: float = 0.9  # of the independent motion, for its blur length


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraEstimate:
    """Camera path and static part of a shot of T frames."""

    path: CameraPath
    static: Tensor  # [T, H, W] 1 on the static scene, 0 on independent motion and overlays
    velocity: Tensor  # [T, 2] pixels per frame interval at the image centre
    unregistered: tuple[int, ...]  # frames that could not be registered with the one before


def estimate_camera(  # noqa: PLR0913
    images: Tensor,
    times: Tensor,
    flows: Mapping[Pair, Flow],
    *,
    shutter: float,
    focal: float | None = None,
    check_deadline: DeadlineCheck = no_deadline,
) -> CameraEstimate:
    """Estimate camera path and static part, from flows and enhanced correlation (ECC).

    Args:
        images: [T, 3, H, W] linear RGB.
        times: [T] seconds.
        flows: Between neighbours, in both directions.
        shutter: Exposure time over frame interval.
        focal: Focal length in pixels; None estimates it.
        check_deadline: Called before each pair of neighbours.
    """
    count = len(images)
    steps = [_step(images, flows, k, check_deadline) for k in range(count - 1)]
    size = (images.shape[2], images.shape[3])
    residuals = [
        homography_residual(flows[k, k + 1], step) for k, step in enumerate(steps) if step is not None
    ]
    parallax = sorted(residuals)[len(residuals) // 2] if residuals else 0.0
    path = camera_path(steps, times, size, focal=focal, parallax=parallax)
    if path.kind == "rotation":
        path = replace(path, rotations=_average_rotations(images, path, steps).float())
    homographies = [torch.eye(3, dtype=torch.float64) if step is None else step for step in steps]
    return CameraEstimate(
        path=path,
        static=_static(flows, homographies, shutter=shutter, has_parallax=path.kind == "parallax"),
        velocity=_velocity(homographies, size),
        unregistered=tuple(k + 1 for k, step in enumerate(steps) if step is None),
    )


def _step(images: Tensor, flows: Mapping[Pair, Flow], k: int, check_deadline: DeadlineCheck) -> Tensor | None:
    check_deadline()
    initial = fit_homography(flows[k, k + 1].uv, flows[k, k + 1].confidence)
    return estimate_homography(images[k], images[k + 1], start=initial)


def _average_rotations(images: Tensor, path: CameraPath, steps: Sequence[Tensor | None]) -> Tensor:
    """Rotations averaged over neighbours and distant pairs, which limits the drift of a chain."""
    K = path.intrinsics.double()
    relative_rotations = {(k, k + 1): path.rotations[k + 1] @ path.rotations[k].mT for k in range(len(steps))}
    for k in range(0, len(images) - LOOP_STRIDE, LOOP_STRIDE // 2):
        relative_rotation = path.rotations[k + LOOP_STRIDE] @ path.rotations[k].mT
        start = K @ relative_rotation.double() @ torch.linalg.inv(K)
        estimate = estimate_homography(images[k], images[k + LOOP_STRIDE], start=start / start[2, 2])
        if estimate is not None:
            relative_rotations[k, k + LOOP_STRIDE] = fit_rotation(estimate, K)
    return average_rotations(relative_rotations, len(images))


def _static(
    flows: Mapping[Pair, Flow], steps: Sequence[Tensor], *, shutter: float, has_parallax: bool
) -> Tensor:
    """[T, H, W] 0 on overlays, and on independent motion unless parallax hides it."""
    config, count = StaticMaskConfig(), len(steps) + 1
    pairs = [(flows[k, k + 1], step) for k, step in enumerate(steps)]
    overlay_mask = detect_overlays(pairs) > config.threshold if pairs else torch.zeros(0, dtype=torch.bool)
    if not pairs or has_parallax:
        return (1 - overlay_mask.float()).expand(count, *overlay_mask.shape)
    pairs.append((flows[count - 1, count - 2], torch.linalg.inv(steps[-1])))
    masks = [(segment_movers(flow, step) > config.threshold) | overlay_mask for flow, step in pairs]
    return torch.stack(
        [
            1 - _dilate(mask, flow, step, shutter=shutter, config=config)
            for mask, (flow, step) in zip(masks, pairs, strict=True)
        ]
    )


def _dilate(mask: Tensor, flow: Flow, step: Tensor, *, shutter: float, config: StaticMaskConfig) -> Tensor:
    """[H, W] a mask of independent motion, dilated by half its blur length and a margin."""
    speed = (flow.uv - homography_to_flow(step, (*flow.confidence.shape,)).to(flow.uv)).norm(dim=0)
    quantile = config.motion_quantile
    blur_px = float(speed[mask].quantile(quantile)) * shutter if bool(mask.any()) else 0.0
    radius_px = round(blur_px / 2) + config.margin_px
    return max_pool2d(mask[None].float(), 2 * radius_px + 1, stride=1, padding=radius_px)[0]


def _velocity(steps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """[T, 2] pixels per frame interval at the time of each frame, at the image centre."""
    centre = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2, 1.0], dtype=torch.float64)
    moved = [step @ centre for step in steps]
    motions = torch.stack([point[:2] / point[2] - centre[:2] for point in moved]).float()
    padded = torch.cat([motions[:1], motions, motions[-1:]])
    return (padded[1:] + padded[:-1]) / 2
