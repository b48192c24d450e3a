"""Where the camera was in a scene with depth: from poses that the user names, or from COLMAP.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.types import CameraPath
from freezeframe.pipeline.support.deadline import DeadlineCheck, no_deadline
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.io.colmap_reader import find_model
from freezeframe.splatting.io.colmap_worker import FrameOrder
from freezeframe.splatting.io.nerf_datasets import TABLE, PosedImages, random_points, read_posed_images
from freezeframe.splatting.io.sfm import TIMEOUT_SECONDS, run_colmap

POINTS = 3000  # drawn where a folder tells nearest and farthest depths only


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPoses:
    """A camera's path through a scene, and points of the scene."""

    path: CameraPath  # of the frames that were placed
    numbers: tuple[int, ...]  # of those frames, rising
    points: Tensor  # [P, 3]


def run_sfm(  # noqa: PLR0913
    images: Tensor,
    times: Tensor,
    *,
    order: FrameOrder,
    static: Tensor | None = None,
    seconds: float = TIMEOUT_SECONDS,
    check_deadline: DeadlineCheck = no_deadline,
) -> CameraPoses:
    """Find the cameras of frames [T, 3, H, W] in linear light by structure from motion.

    Frames that were sharpened first are placed twice as well as blurred ones (docs/results/scenes.md).

    Raises:
        MissingExtra: pycolmap is not installed.
        NoScene: Too few frames could be placed, or COLMAP took more than `seconds`.
    """
    registration = run_colmap(
        list(images), order=order, static=static, seconds=seconds, check_deadline=check_deadline
    )
    path = _path(registration.views, times[list(registration.numbers)])
    return CameraPoses(path=path, numbers=registration.numbers, points=registration.points)


def load_posed_images(folder: Path) -> PosedImages | None:
    """The photographs and cameras in a folder that holds both, else None."""
    known = folder.is_dir() and (find_model(folder) is not None or (folder / TABLE).is_file())
    return read_posed_images(folder) if known else None


def match_poses(posed_images: PosedImages, times: Tensor, *, where: Path) -> CameraPoses:
    """The cameras that a folder tells of, one for each frame in the order of names; held-out ones left out.

    Raises:
        UnreadableMedia: There are not as many cameras as frames.
    """
    if len(posed_images) != len(times):
        raise UnreadableMedia(
            f"{where}: has {len(posed_images)} cameras for {len(times)} frames; name the part that they belong to"
        )
    numbers = [k for k, is_holdout in enumerate(posed_images.is_holdout) if not is_holdout]
    views = Views(viewmats=posed_images.views.viewmats[numbers], Ks=posed_images.views.Ks[numbers])
    points = posed_images.points if len(posed_images.points) else random_points(posed_images, POINTS)
    return CameraPoses(path=_path(views, times[numbers]), numbers=tuple(numbers), points=points)


def holdout_views(posed_images: PosedImages) -> tuple[list[Path], Views]:
    """The sharp pictures of the held-out views, and their cameras."""
    chosen = [k for k, is_holdout in enumerate(posed_images.is_holdout) if is_holdout]
    paths = [posed_images.truths[k] or posed_images.paths[k] for k in chosen]
    return paths, Views(viewmats=posed_images.views.viewmats[chosen], Ks=posed_images.views.Ks[chosen])


def _path(views: Views, times: Tensor) -> CameraPath:
    viewmats = views.viewmats.float()
    return CameraPath(
        times=times.float(), rotations=viewmats[:, :3, :3], translations=viewmats[:, :3, 3],
        intrinsics=views.Ks.float().mean(0), kind="parallax",
    )  # fmt: skip
