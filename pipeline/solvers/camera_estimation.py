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
from freezeframe.motion.camera.homography import camera_flow, homography, homography_of_flow
from freezeframe.motion.camera.rotation_path import averaged, camera_path, misfit, rotation_of
from freezeframe.motion.camera.segmentation import movers, overlays
from freezeframe.pipeline.support.deadline import Beat, unhurried

FAR = 4  # frames between those that are compared beside neighbours
MOVING = 0.5  # certainty from which a pixel counts as a mover or an overlay
SLACK = 3  # pixels around a mover, beside its own blur

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One shot's camera."""

    path: CameraPath
    static: Tensor  # [T, H, W] 1 where the scene is, 0 on movers and overlays and around them
    velocity: Tensor  # [T, 2] pixels per frame interval of the middle of the picture
    missing: tuple[int, ...]  # frames that could not be laid onto the one before


def sight(  # noqa: PLR0913
    images: Tensor,
    times: Tensor,
    flows: Mapping[Pair, Flow],
    *,
    shutter: float,
    focal: float | None = None,
    beat: Beat = unhurried,
) -> Sighting:
    """The camera's turns and what stands still, from flows and enhanced correlation.

    Args:
        images: [T, 3, H, W] linear RGB.
        times: [T] seconds.
        flows: Both ways between neighbours.
        shutter: Exposure time over frame interval.
        focal: Pixels; None estimates it.
        beat: Called before each pair of neighbours.
    """
    count = len(images)
    steps = [_step(images, flows, k, beat) for k in range(count - 1)]
    size = (images.shape[2], images.shape[3])
    off = [misfit(flows[k, k + 1], step) for k, step in enumerate(steps) if step is not None]
    parallax = sorted(off)[len(off) // 2] if off else 0.0
    path = camera_path(steps, times, size, focal=focal, parallax=parallax)
    if path.kind == "rotation":
        path = replace(path, rotations=_agreed(images, path, steps).float())
    whole = [torch.eye(3, dtype=torch.float64) if step is None else step for step in steps]
    return Sighting(
        path=path,
        static=_static(flows, whole, count, shutter=shutter, deep=path.kind == "parallax"),
        velocity=_velocity(whole, size),
        missing=tuple(k + 1 for k, step in enumerate(steps) if step is None),
    )


def _step(images: Tensor, flows: Mapping[Pair, Flow], k: int, beat: Beat) -> Tensor | None:
    beat()
    guess = homography_of_flow(flows[k, k + 1].shift, flows[k, k + 1].trust)
    return homography(images[k], images[k + 1], start=guess)


def _agreed(images: Tensor, path: CameraPath, steps: Sequence[Tensor | None]) -> Tensor:
    """Rotations that neighbours and frames farther apart agree on: errors of a chain add up."""
    lens = path.intrinsics.double()
    turns = {(k, k + 1): path.rotations[k + 1] @ path.rotations[k].mT for k in range(len(steps))}
    for k in range(0, len(images) - FAR, FAR // 2):
        over = path.rotations[k + FAR] @ path.rotations[k].mT
        start = lens @ over.double() @ torch.linalg.inv(lens)
        found = homography(images[k], images[k + FAR], start=start / start[2, 2])
        if found is not None:
            turns[k, k + FAR] = rotation_of(found, lens)
    return averaged(turns, len(images))


def _static(
    flows: Mapping[Pair, Flow], steps: Sequence[Tensor], count: int, *, shutter: float, deep: bool
) -> Tensor:
    """[T, H, W] 0 on overlays, and on movers where no depth moves things apart too."""
    pairs = [(flows[k, k + 1], step) for k, step in enumerate(steps)]
    painted = overlays(pairs) > MOVING if pairs else torch.zeros(0, dtype=torch.bool)
    if pairs and not deep:
        pairs.append((flows[count - 1, count - 2], torch.linalg.inv(steps[-1])))
        apart = [(movers(flow, step) > MOVING) | painted for flow, step in pairs]
        kept = [1 - _dilated(a, f, s, shutter=shutter) for a, (f, s) in zip(apart, pairs, strict=True)]
        return torch.stack(kept)
    return (1 - painted.float()).expand(count, *painted.shape)


def _dilated(apart: Tensor, flow: Flow, step: Tensor, *, shutter: float) -> Tensor:
    """[H, W] movers and all that they swept over while the shutter was open."""
    own = (flow.shift - camera_flow(step, (*flow.trust.shape,)).to(flow.shift)).norm(dim=0)
    swept = float(own[apart].quantile(0.9)) * shutter if bool(apart.any()) else 0.0
    reach = round(swept / 2) + SLACK
    return max_pool2d(apart[None].float(), 2 * reach + 1, stride=1, padding=reach)[0]


def _velocity(steps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """[T, 2] pixels per interval at each frame's own time, in the middle of the picture."""
    middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2, 1.0], dtype=torch.float64)
    ends = [step @ middle for step in steps]
    moves = torch.stack([end[:2] / end[2] - middle[:2] for end in ends]).float()
    outer = torch.cat([moves[:1], moves, moves[-1:]])
    return (outer[1:] + outer[:-1]) / 2
