"""Readers of image folders with known cameras, in the layouts of NeRF and deblurring datasets.

images/ or images_N/    the images, N times smaller
sparse/0/               a COLMAP model, or
poses_bounds.npy        the table of LLFF (Mildenhall et al. 2019)
hold=N                  an empty file: image 0 and every Nth after it are sharp and held out
images_test/            a sharp image for each one that is not held out (Deblur-NeRF, BAD-NeRF)

Nothing here takes a gradient.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.photo.decode import display_size
from freezeframe.data.media.photo.files import read_photo
from freezeframe.splatting.camera.lie import compose_se3
from freezeframe.splatting.camera.trajectory import Views

from .colmap_reader import find_model, read_model

TABLE = "poses_bounds.npy"
MAX_ASPECT_ERROR = 0.02  # relative difference of the scales of width and height


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedImages:
    """N images of one scene with their cameras."""

    paths: tuple[Path, ...]
    is_holdout: tuple[bool, ...]  # sharp, and excluded from the fit
    truths: tuple[Path | None, ...]  # sharp images of the same views, if any
    views: Views  # at the middle of the exposures, for images of `size`
    size: tuple[int, int]  # height and width in pixels
    points: Tensor  # [P, 3] of the scene; P may be 0
    colours: Tensor  # [P, 3] encoded sRGB in [0, 1]
    depths: Tensor | None = None  # [N, 2] nearest and farthest depth, if there are no points

    def __len__(self) -> int:
        return len(self.paths)


def read_posed_images(
    folder: str | Path, *, images: str | None = None, holdout: int | None = None
) -> PosedImages:
    """Read an image folder with a COLMAP model or an LLFF table.

    Args:
        folder: Of one scene.
        images: Name of the subfolder of images; None for the one with the largest images.
        holdout: Hold out every `holdout`-th image, 0 for none; None reads the file `hold=N`.

    Raises:
        UnreadableMedia: Cameras or images are missing, or do not match.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableMedia(f"{folder}: is not a folder; name one with images/ and sparse/0/ or {TABLE}")
    if find_model(folder) is not None:
        posed_images = _read_colmap(folder, images)
    elif (folder / TABLE).is_file():
        posed_images = _read_llff(folder, images)
    else:
        raise UnreadableMedia(f"{folder}: has neither sparse/0/ nor {TABLE}; run COLMAP on its images first")
    stride = _read_holdout_file(folder) if holdout is None else holdout
    is_holdout = tuple(stride > 0 and k % stride == 0 for k in range(len(posed_images)))
    return replace(
        posed_images, is_holdout=is_holdout, truths=_truths(folder, posed_images.paths, is_holdout)
    )


def llff_views(table: Tensor, size: tuple[int, int]) -> tuple[Views, Tensor]:
    """Cameras of images of `size`, and their nearest and farthest depths [N, 2].

    Args:
        table: [N, 17]: a 3x5 matrix (camera axes "down, right, backwards" in world coordinates, camera
            centre, and height, width, focal length in pixels), then the two depths.
        size: Height and width of the images.
    """
    matrix, depths = table[:, :15].double().reshape(-1, 3, 5), table[:, 15:]
    down, right, backwards, centre, (height, width, focal) = (
        *matrix[..., :4].unbind(2),
        matrix[..., 4].unbind(1),
    )
    rotation = torch.stack([right, down, -backwards], dim=1)
    Ks = torch.eye(3).repeat(len(matrix), 1, 1).double()
    Ks[:, 0, 0] = Ks[:, 1, 1] = focal
    Ks[:, 0, 2], Ks[:, 1, 2] = width / 2 - 0.5, height / 2 - 0.5
    views = Views(
        viewmats=compose_se3(rotation, -(rotation @ centre[..., None])[..., 0]).float(), Ks=Ks.float()
    )
    return _rescale_intrinsics(views, (int(height[0]), int(width[0])), size), depths.float()


def random_points(posed_images: PosedImages, count: int, *, seed: int = 0) -> Tensor:
    """[count, 3] random points in the view frustums, for datasets without points."""
    if posed_images.depths is None:
        raise ValueError("the dataset has points")
    generator = torch.Generator().manual_seed(seed)
    camera = torch.randint(len(posed_images), (count,), generator=generator)
    height, width = posed_images.size
    u, v, w = torch.rand(count, 3, generator=generator).unbind(1)
    near, far = posed_images.depths[camera].unbind(1)
    depth = 1 / (w / near + (1 - w) / far)  # uniform in disparity
    pixel = torch.stack([u * width - 0.5, v * height - 0.5, torch.ones(count)], dim=1)
    ray = (torch.linalg.inv(posed_images.views.Ks[camera]) @ pixel[..., None])[..., 0] * depth[:, None]
    view = posed_images.views.viewmats[camera]
    points: Tensor = (view[:, :3, :3].mT @ (ray - view[:, :3, 3])[..., None])[..., 0]
    return points


def _read_colmap(folder: Path, images: str | None) -> PosedImages:
    model = read_model(folder)
    paths = _match_names(folder, images, model.names)
    if len(set(model.sizes)) > 1:
        raise UnreadableMedia(f"{folder}: has images of several sizes; keep those of one size")
    size = _check_one_size(paths)
    views = _rescale_intrinsics(
        Views(viewmats=model.viewmats, Ks=model.Ks), model.sizes[0], size, source=folder
    )
    return _without_holdout(paths, views, size, points=model.points, colours=model.colours)


def _read_llff(folder: Path, images: str | None) -> PosedImages:
    try:
        table = torch.from_numpy(np.load(folder / TABLE, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise UnreadableMedia(f"{folder / TABLE}: cannot be read ({error}); copy it anew") from error
    if table.ndim != 2 or table.shape[1] != 17 or not len(table):
        raise UnreadableMedia(
            f"{folder / TABLE}: has shape {tuple(table.shape)}; an LLFF table has 17 columns"
        )
    files = {each: _list_images(each) for each in _image_folders(folder, images)}
    paths = next((candidate for candidate in files.values() if len(candidate) == len(table)), None)
    if paths is None:
        counts = ", ".join(f"{each.name} {len(candidate)}" for each, candidate in files.items()) or "none"
        raise UnreadableMedia(
            f"{folder}: {TABLE} has cameras of {len(table)} images, but there are: {counts}"
        )
    size = _check_one_size(paths)
    views, depths = llff_views(table, size)
    empty = torch.zeros(0, 3)
    return replace(_without_holdout(paths, views, size, points=empty, colours=empty), depths=depths)


def _without_holdout(
    paths: Sequence[Path], views: Views, size: tuple[int, int], *, points: Tensor, colours: Tensor
) -> PosedImages:
    count = len(paths)
    return PosedImages(
        paths=tuple(paths), is_holdout=(False,) * count, truths=(None,) * count, views=views, size=size,
        points=points, colours=colours,
    )  # fmt: skip


def _rescale_intrinsics(
    views: Views, nominal_size: tuple[int, int], size: tuple[int, int], *, source: object = TABLE
) -> Views:
    """The cameras of images that were scaled from `nominal_size` to `size`."""
    scale_y, scale_x = size[0] / nominal_size[0], size[1] / nominal_size[1]
    if abs(scale_y / scale_x - 1) > MAX_ASPECT_ERROR:
        raise UnreadableMedia(
            f"{source}: has cameras of {nominal_size[1]}x{nominal_size[0]} images, but the images are"
            f" {size[1]}x{size[0]}; name the folder of the matching images"
        )
    Ks = views.Ks.clone()
    Ks[:, :2, 2] += 0.5
    Ks[:, :2] *= Ks.new_tensor([scale_x, scale_y])[:, None]
    Ks[:, :2, 2] -= 0.5
    return replace(views, Ks=Ks)


def _image_folders(folder: Path, images: str | None) -> list[Path]:
    """Candidate folders, those of the largest images first."""
    if images is not None:
        return [folder / images]
    numbered = [
        (int(match[1]), each)
        for each in folder.glob("images_*")
        if (match := re.fullmatch(r"images_(\d+)", each.name))
    ]
    return [folder / "images", *(each for _, each in sorted(numbered))]


def _list_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in PHOTO_SUFFIXES)


def _match_names(folder: Path, images: str | None, names: Sequence[str]) -> list[Path]:
    """The files of the image names in a COLMAP model; suffixes may differ."""
    missing = names
    for candidate in _image_folders(folder, images):
        stems = {
            file.with_suffix(""): file
            for file in candidate.rglob("*")
            if file.suffix.lower() in PHOTO_SUFFIXES
        }
        matches = [stems.get((candidate / name).with_suffix("")) for name in names]
        paths = [file for file in matches if file is not None]
        if len(paths) == len(names):
            return paths
        missing = min(missing, [n for n, file in zip(names, matches, strict=True) if file is None], key=len)
    raise UnreadableMedia(
        f"{folder / (images or 'images')}: lacks {len(missing)} images of the model, such as {missing[0]}"
    )


def _check_one_size(paths: Sequence[Path]) -> tuple[int, int]:
    sizes = {display_size(path) or read_photo(path).size for path in paths}
    if len(sizes) > 1:
        raise UnreadableMedia(f"{paths[0].parent}: has images of several sizes; keep those of one size")
    return sizes.pop()


def _read_holdout_file(folder: Path) -> int:
    for file in folder.glob("hold=*"):
        if match := re.fullmatch(r"hold=(-?\d+)", file.name):
            return int(match[1])
    return 0


def _truths(folder: Path, paths: Sequence[Path], is_holdout: Sequence[bool]) -> tuple[Path | None, ...]:
    """Sharp images of all views; held-out images are their own."""
    sharp = _list_images(folder / "images_test")
    blurred = is_holdout.count(False)
    if sharp and len(sharp) not in (blurred, len(paths)):
        raise UnreadableMedia(
            f"{folder / 'images_test'}: has {len(sharp)} sharp images for {blurred} blurred ones; keep one"
            " for each"
        )
    if len(sharp) == len(paths):
        return tuple(sharp)
    remaining = iter(sharp)
    return tuple(
        path if held_out else next(remaining, None) for path, held_out in zip(paths, is_holdout, strict=True)
    )
