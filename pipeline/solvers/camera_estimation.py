"""What the frames of one shot tell of their camera, and of what does not belong to its scene.

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
from freezeframe.pipeline.support.deadline import DeadlineCheck, no_deadline

LOOP_STRIDE = 4  # frames between those that are compared beside neighbours
MOVER_THRESHOLD = 0.5  # certainty from which a pixel counts as a mover or an overlay
MOVER_MARGIN_PX = 3  # pixels around a mover, beside its own blur

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraEstimate:
    """One shot's camera."""

    path: CameraPath
    static: Tensor  # [T, H, W] 1 where the scene is, 0 on movers and overlays and around them
    velocity: Tensor  # [T, 2] pixels per frame interval of the middle of the picture
    unregistered: tuple[int, ...]  # frames that could not be laid onto the one before


def estimate_camera(  # noqa: PLR0913
    images: Tensor,
    times: Tensor,
    flows: Mapping[Pair, Flow],
    *,
    shutter: float,
    focal: float | None = None,
    check_deadline: DeadlineCheck = no_deadline,
) -> CameraEstimate:
    """The camera's turns and what stands still, from flows and enhanced correlation.

    Args:
        images: [T, 3, H, W] linear RGB.
        times: [T] seconds.
        flows: Both ways between neighbours.
        shutter: Exposure time over frame interval.
        focal: Pixels; None estimates it.
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
        static=_static(flows, homographies, count, shutter=shutter, deep=path.kind == "parallax"),
        velocity=_velocity(homographies, size),
        unregistered=tuple(k + 1 for k, step in enumerate(steps) if step is None),
    )


def _step(images: Tensor, flows: Mapping[Pair, Flow], k: int, check_deadline: DeadlineCheck) -> Tensor | None:
    check_deadline()
    guess = fit_homography(flows[k, k + 1].uv, flows[k, k + 1].confidence)
    return estimate_homography(images[k], images[k + 1], start=guess)


def _average_rotations(images: Tensor, path: CameraPath, steps: Sequence[Tensor | None]) -> Tensor:
    """Rotations that neighbours and frames farther apart agree on: errors of a chain add up."""
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
    flows: Mapping[Pair, Flow], steps: Sequence[Tensor], count: int, *, shutter: float, deep: bool
) -> Tensor:
    """[T, H, W] 0 on overlays, and on movers where no depth moves things apart too."""
    pairs = [(flows[k, k + 1], step) for k, step in enumerate(steps)]
    overlay_mask = detect_overlays(pairs) > MOVER_THRESHOLD if pairs else torch.zeros(0, dtype=torch.bool)
    if pairs and not deep:
        pairs.append((flows[count - 1, count - 2], torch.linalg.inv(steps[-1])))
        mover_masks = [(segment_movers(flow, step) > MOVER_THRESHOLD) | overlay_mask for flow, step in pairs]
        static_masks = [
            1 - _dilated(a, f, s, shutter=shutter) for a, (f, s) in zip(mover_masks, pairs, strict=True)
        ]
        return torch.stack(static_masks)
    return (1 - overlay_mask.float()).expand(count, *overlay_mask.shape)


def _dilated(mover_mask: Tensor, flow: Flow, step: Tensor, *, shutter: float) -> Tensor:
    """[H, W] movers and all that they swept over while the shutter was open."""
    own = (flow.uv - homography_to_flow(step, (*flow.confidence.shape,)).to(flow.uv)).norm(dim=0)
    swept_px = float(own[mover_mask].quantile(0.9)) * shutter if bool(mover_mask.any()) else 0.0
    radius_px = round(swept_px / 2) + MOVER_MARGIN_PX
    return max_pool2d(mover_mask[None].float(), 2 * radius_px + 1, stride=1, padding=radius_px)[0]


def _velocity(steps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """[T, 2] pixels per interval at each frame's own time, in the middle of the picture."""
    middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2, 1.0], dtype=torch.float64)
    ends = [step @ middle for step in steps]
    moves = torch.stack([end[:2] / end[2] - middle[:2] for end in ends]).float()
    outer = torch.cat([moves[:1], moves, moves[-1:]])
    return (outer[1:] + outer[:-1]) / 2
