"""Where the camera was in a scene with depth: from poses that the user names, or from COLMAP.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.types import CameraPath
from freezeframe.pipeline.support.deadline import Beat, unhurried
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.io.colmap_reader import find_model
from freezeframe.splatting.io.colmap_worker import Order
from freezeframe.splatting.io.nerf_datasets import TABLE, Shots, guessed_points, read_shots
from freezeframe.splatting.io.sfm import LONGEST, poses_from

POINTS = 3000  # drawn where a folder tells nearest and farthest depths only


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A camera's path through a scene, and points of the scene."""

    path: CameraPath  # of the frames that were placed
    numbers: tuple[int, ...]  # of those frames, rising
    points: Tensor  # [P, 3]


def located(  # noqa: PLR0913
    images: Tensor,
    times: Tensor,
    *,
    order: Order,
    static: Tensor | None = None,
    seconds: float = LONGEST,
    beat: Beat = unhurried,
) -> Located:
    """Find the cameras of frames [T, 3, H, W] in linear light by structure from motion.

    Frames that were sharpened first are placed twice as well as blurred ones (docs/splatting.md).

    Raises:
        MissingExtra: pycolmap is not installed.
        NoScene: Too few frames could be placed, or COLMAP took more than `seconds`.
    """
    found = poses_from(list(images), order=order, static=static, seconds=seconds, beat=beat)
    path = _path(found.views, times[list(found.numbers)])
    return Located(path=path, numbers=found.numbers, points=found.points)


def posed(folder: Path) -> Shots | None:
    """The photographs and cameras in a folder that holds both, else None."""
    known = folder.is_dir() and (find_model(folder) is not None or (folder / TABLE).is_file())
    return read_shots(folder) if known else None


def named(shots: Shots, times: Tensor, *, where: Path) -> Located:
    """The cameras that a folder tells of, one for each frame in the order of names; held-out ones left out.

    Raises:
        UnreadableMedia: There are not as many cameras as frames.
    """
    if len(shots) != len(times):
        raise UnreadableMedia(
            f"{where}: has {len(shots)} cameras for {len(times)} frames; name the part that they belong to"
        )
    numbers = [k for k, held in enumerate(shots.held) if not held]
    views = Views(poses=shots.views.poses[numbers], lenses=shots.views.lenses[numbers])
    points = shots.points if len(shots.points) else guessed_points(shots, POINTS)
    return Located(path=_path(views, times[numbers]), numbers=tuple(numbers), points=points)


def held_out(shots: Shots) -> tuple[list[Path], Views]:
    """The sharp pictures of the held-out views, and their cameras."""
    chosen = [k for k, held in enumerate(shots.held) if held]
    paths = [shots.truths[k] or shots.paths[k] for k in chosen]
    return paths, Views(poses=shots.views.poses[chosen], lenses=shots.views.lenses[chosen])


def _path(views: Views, times: Tensor) -> CameraPath:
    poses = views.poses.float()
    return CameraPath(
        times=times.float(), rotations=poses[:, :3, :3], translations=poses[:, :3, 3],
        intrinsics=views.lenses.float().mean(0), kind="parallax",
    )  # fmt: skip
