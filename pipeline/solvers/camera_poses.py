"""Camera poses of a scene with depth: from a dataset, or by structure from motion.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.types import CameraPath
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.io.colmap_reader import find_model
from freezeframe.splatting.io.colmap_worker import FrameOrder
from freezeframe.splatting.io.nerf_datasets import TABLE, PosedImages, random_points, read_posed_images
from freezeframe.splatting.io.sfm import TimeLimit, run_colmap

RANDOM_POINTS = 3000  # for datasets with depth ranges, but without points


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPoses:
    """Camera path of the registered frames, and points of the scene."""

    path: CameraPath  # of the registered frames
    numbers: tuple[int, ...]  # their indices, increasing
    points: Tensor  # [P, 3]


def run_sfm(
    images: Tensor,
    times: Tensor,
    *,
    order: FrameOrder,
    static: Tensor | None = None,
    limit: TimeLimit | None = None,
) -> CameraPoses:
    """Estimate camera poses by structure from motion.

    Deblurred frames are registered twice as accurately as blurred ones (docs/results/scenes.md).

    Args:
        images: [T, 3, H, W] linear RGB.
        times: [T] seconds.
        order: Whether frames are consecutive.
        static: [T, H, W] mask of the static part, in [0, 1].
        limit: Time limit of COLMAP; None for the default.

    Raises:
        MissingExtra: pycolmap is not installed.
        NoScene: Too few frames could be registered, or the time limit was exceeded.
    """
    registration = run_colmap(list(images), order=order, static=static, limit=limit or TimeLimit())
    path = _path(registration.views, times[list(registration.numbers)])
    return CameraPoses(path=path, numbers=registration.numbers, points=registration.points)


def load_posed_images(folder: Path) -> PosedImages | None:
    """The images and cameras of a dataset folder; None for other paths."""
    is_dataset = folder.is_dir() and (find_model(folder) is not None or (folder / TABLE).is_file())
    return read_posed_images(folder) if is_dataset else None


def match_poses(posed_images: PosedImages, times: Tensor, *, source: Path) -> CameraPoses:
    """Cameras of the frames, in the order of file names, without held-out ones.

    Raises:
        UnreadableMedia: The numbers of cameras and frames differ.
    """
    if len(posed_images) != len(times):
        raise UnreadableMedia(
            f"{source}: has {len(times)} frames for {len(posed_images)} cameras; select the frames that"
            " have cameras (--start, --end)"
        )
    numbers = [k for k, is_holdout in enumerate(posed_images.is_holdout) if not is_holdout]
    points = posed_images.points if len(posed_images.points) else random_points(posed_images, RANDOM_POINTS)
    path = _path(posed_images.views[numbers], times[numbers])
    return CameraPoses(path=path, numbers=tuple(numbers), points=points)


def holdout_views(posed_images: PosedImages) -> tuple[list[Path], Views]:
    """Sharp images and cameras of the held-out views."""
    numbers = [k for k, is_holdout in enumerate(posed_images.is_holdout) if is_holdout]
    paths = [posed_images.truths[k] or posed_images.paths[k] for k in numbers]
    return paths, posed_images.views[numbers]


def _path(views: Views, times: Tensor) -> CameraPath:
    viewmats = views.viewmats.float()
    return CameraPath(
        times=times.float(), rotations=viewmats[:, :3, :3], translations=viewmats[:, :3, 3],
        intrinsics=views.Ks.float().mean(0), kind="parallax",
    )  # fmt: skip
