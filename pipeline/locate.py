"""Where the camera was in a scene with depth: from poses that the user names, or from COLMAP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..data.errors import UnreadableMedia
from ..data.types import CameraPath
from ..splatting.colmap import Order, poses_from
from ..splatting.layouts import read_shots
from ..splatting.trajectory import Views

POINTS = 3000  # drawn between the nearest and the farthest depth where a folder has no points


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A camera's path through a scene, and points of the scene."""

    path: CameraPath  # of the frames that were placed
    numbers: tuple[int, ...]  # of those frames, rising
    points: Tensor  # [P, 3]


def located(images: Tensor, times: Tensor, *, order: Order, static: Tensor | None = None) -> Located:
    """Find the cameras of frames [T, 3, H, W] in linear light by structure from motion.

    Raises:
        MissingExtra: pycolmap is not installed.
        FreezeframeError: Too few frames could be placed.
    """
    found = poses_from(list(images), order=order, static=static)
    numbers = list(found.numbers)
    path = _path(found.views, times[numbers])
    return Located(path=path, numbers=found.numbers, points=found.points)


def named(folder: Path, times: Tensor, size: tuple[int, int]) -> Located:
    """The cameras in a COLMAP model or an LLFF folder, one for each frame, in the order of their names.

    Raises:
        UnreadableMedia: There are not as many cameras as frames.
    """
    shots = read_shots(folder)
    if len(shots) != len(times):
        raise UnreadableMedia(
            f"{folder}: has {len(shots)} cameras for {len(times)} frames; name the part that they belong to"
        )
    views = resized(shots.views, size[0] / shots.size[0])
    points = shots.points if len(shots.points) else between(views, shots.depths, size)
    return Located(path=_path(views, times), numbers=tuple(range(len(times))), points=points)


def resized(views: Views, factor: float) -> Views:
    """The same views in pictures with `factor` times as many pixels on a side."""
    lenses = views.lenses.clone()
    lenses[:, :2] = lenses[:, :2] * factor
    lenses[:, :2, 2] += (factor - 1) / 2
    return replace(views, lenses=lenses)


def between(views: Views, depths: Tensor | None, size: tuple[int, int], *, count: int = POINTS) -> Tensor:
    """[P, 3] points drawn in front of all cameras, evenly over inverse depth."""
    random = torch.Generator().manual_seed(0)
    height, width = size
    which = torch.randint(len(views.poses), (count,), generator=random)
    near, far = (depths if depths is not None else torch.tensor([[1.0, 10.0]]).repeat(len(views.poses), 1))[
        which
    ].T
    place = torch.rand(count, 3, generator=random)
    depth = 1 / torch.lerp(1 / far, 1 / near, place[:, 2])
    lens, pose = views.lenses[which], views.poses[which]
    x = (place[:, 0] * (width - 1) - lens[:, 0, 2]) / lens[:, 0, 0]
    y = (place[:, 1] * (height - 1) - lens[:, 1, 2]) / lens[:, 1, 1]
    seen = torch.stack([x * depth, y * depth, depth], dim=1)
    return ((seen - pose[:, :3, 3])[:, None] @ pose[:, :3, :3])[:, 0]


def _path(views: Views, times: Tensor) -> CameraPath:
    poses = views.poses.float()
    return CameraPath(
        times=times.float(), rotations=poses[:, :3, :3], translations=poses[:, :3, 3],
        intrinsics=views.lenses.float().mean(0), kind="parallax",
    )  # fmt: skip
