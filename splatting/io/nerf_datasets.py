"""Photographs with known cameras, in the folders that deblurring with NeRFs and Gaussians made usual.

images/ or images_N/    the pictures, N times smaller
sparse/0/               COLMAP's model of them, or
poses_bounds.npy        LLFF's table (Mildenhall et al. 2019)
hold=N                  an empty file: picture 0 and every Nth after it are sharp, and kept for the test
images_test/            the sharp picture of each one that is not held out (Deblur-NeRF, BAD-NeRF)

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
TOLERANCE = 0.02  # share by which a picture may be scaled otherwise in width than in height


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedImages:
    """N photographs of one scene and the cameras that took them."""

    paths: tuple[Path, ...]
    is_holdout: tuple[bool, ...]  # kept for the test: sharp, and no part of any fit
    truths: tuple[Path | None, ...]  # the sharp picture of the same view, where there is one
    views: Views  # in the middle of the exposures; lenses for pictures of `size`
    size: tuple[int, int]  # height and width in pixels
    points: Tensor  # [P, 3] of the scene; P may be 0
    colours: Tensor  # [P, 3] of the points, sRGB codes in [0, 1]
    depths: Tensor | None = None  # [N, 2] nearest and farthest, where no points tell

    def __len__(self) -> int:
        return len(self.paths)


def read_posed_images(
    folder: str | Path, *, images: str | None = None, holdout: int | None = None
) -> PosedImages:
    """Read such a folder.

    Args:
        folder: Of one scene.
        images: Name of the folder of pictures within; the largest ones if not given.
        holdout: Keep every so many-th picture for the test, 0 none; what the file `hold=N` says if not given.

    Raises:
        UnreadableMedia: Cameras or pictures are missing, or do not belong together.
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
    every = _read_holdout_file(folder) if holdout is None else holdout
    is_holdout = tuple(every > 0 and k % every == 0 for k in range(len(posed_images)))
    return replace(
        posed_images, is_holdout=is_holdout, truths=_truths(folder, posed_images.paths, is_holdout)
    )


def llff_views(table: Tensor, size: tuple[int, int]) -> tuple[Views, Tensor]:
    """Cameras of pictures of `size` (height, width), and [N, 2] nearest and farthest depths.

    Args:
        table: [N, 17]: a 3x5 matrix (x, y and z axes of the camera as "down, right, backwards" in the world,
            its centre, and height, width, focal length in pixels), then the two depths.
        size: Of the pictures at hand.
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
    """[count, 3] points anywhere that the cameras look, for scenes of which only the depths are known."""
    if posed_images.depths is None:
        raise ValueError("these shots have points of their own")
    random = torch.Generator().manual_seed(seed)
    camera = torch.randint(len(posed_images), (count,), generator=random)
    height, width = posed_images.size
    place = torch.rand(count, 3, generator=random)
    near, far = posed_images.depths[camera].unbind(1)
    depth = 1 / (place[:, 2] / near + (1 - place[:, 2]) / far)  # even in what the picture moves
    pixel = torch.stack([place[:, 0] * width - 0.5, place[:, 1] * height - 0.5, torch.ones(count)], dim=1)
    ray = (torch.linalg.inv(posed_images.views.Ks[camera]) @ pixel[..., None])[..., 0] * depth[:, None]
    view = posed_images.views.viewmats[camera]
    points: Tensor = (view[:, :3, :3].mT @ (ray - view[:, :3, 3])[..., None])[..., 0]
    return points


def _read_colmap(folder: Path, images: str | None) -> PosedImages:
    model = read_model(folder)
    paths = _match_names(folder, images, model.names)
    if len(set(model.sizes)) > 1:
        raise UnreadableMedia(f"{folder}: has pictures of several sizes; leave those of one size")
    size = _check_one_size(paths)
    views = _rescale_intrinsics(Views(viewmats=model.viewmats, Ks=model.Ks), model.sizes[0], size, of=folder)
    return _shots(paths, views, size, points=model.points, colours=model.colours)


def _read_llff(folder: Path, images: str | None) -> PosedImages:
    try:
        table = torch.from_numpy(np.load(folder / TABLE, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise UnreadableMedia(f"{folder / TABLE}: cannot be read ({error}); copy it anew") from error
    if table.ndim != 2 or table.shape[1] != 17 or not len(table):
        raise UnreadableMedia(f"{folder / TABLE}: has shape {tuple(table.shape)}; LLFF's has 17 columns")
    counts = {
        folder_candidate: _list_images(folder_candidate)
        for folder_candidate in _image_folders(folder, images)
    }
    paths = next((found for found in counts.values() if len(found) == len(table)), None)
    if paths is None:
        counts_text = (
            ", ".join(f"{folder_candidate.name} {len(found)}" for folder_candidate, found in counts.items())
            or "none"
        )
        raise UnreadableMedia(
            f"{folder}: {TABLE} tells of {len(table)} pictures, but there are: {counts_text}"
        )
    size = _check_one_size(paths)
    views, depths = llff_views(table, size)
    nothing = torch.zeros(0, 3)
    return replace(_shots(paths, views, size, points=nothing, colours=nothing), depths=depths)


def _shots(
    paths: Sequence[Path], views: Views, size: tuple[int, int], *, points: Tensor, colours: Tensor
) -> PosedImages:
    nobody = (False,) * len(paths)
    return PosedImages(
        paths=tuple(paths), is_holdout=nobody, truths=(None,) * len(paths), views=views, size=size, points=points,
        colours=colours,
    )  # fmt: skip


def _rescale_intrinsics(
    views: Views, nominal_size: tuple[int, int], size: tuple[int, int], *, of: object = TABLE
) -> Views:
    """The views for pictures that were scaled from the size told of them."""
    down, across = size[0] / nominal_size[0], size[1] / nominal_size[1]
    if abs(down / across - 1) > TOLERANCE:
        raise UnreadableMedia(
            f"{of}: its cameras are of {nominal_size[1]}x{nominal_size[0]} pictures, but these are of {size[1]}x{size[0]};"
            " name the folder of the right ones"
        )
    Ks = views.Ks.clone()
    Ks[:, :2, 2] += 0.5
    Ks[:, :2] *= Ks.new_tensor([across, down])[:, None]
    Ks[:, :2, 2] -= 0.5
    return replace(views, Ks=Ks)


def _image_folders(folder: Path, images: str | None) -> list[Path]:
    """Folders of pictures, the largest pictures first."""
    if images is not None:
        return [folder / images]
    numbered = [
        (int(match[1]), each)
        for each in folder.glob("images_*")
        if (match := re.fullmatch(r"images_(\d+)", each.name))
    ]
    return [folder / "images", *(each for _, each in sorted(numbered))]


def _list_images(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(file for file in place.iterdir() if file.suffix.lower() in PHOTO_SUFFIXES)


def _match_names(folder: Path, images: str | None, names: Sequence[str]) -> list[Path]:
    """The files that COLMAP calls by these names; copies of another kind will do."""
    missing = names
    for place in _image_folders(folder, images):
        stems = {
            file.with_suffix(""): file for file in place.rglob("*") if file.suffix.lower() in PHOTO_SUFFIXES
        }
        found = [stems.get((place / name).with_suffix("")) for name in names]
        paths = [file for file in found if file is not None]
        if len(paths) == len(names):
            return paths
        missing = min(missing, [n for n, file in zip(names, found, strict=True) if file is None], key=len)
    where = images or "images"
    raise UnreadableMedia(
        f"{folder / where}: lacks {len(missing)} pictures of the model, such as {missing[0]}"
    )


def _check_one_size(paths: Sequence[Path]) -> tuple[int, int]:
    sizes = {display_size(path) or read_photo(path).size for path in paths}
    if len(sizes) > 1:
        raise UnreadableMedia(f"{paths[0].parent}: has pictures of several sizes; leave those of one size")
    return sizes.pop()


def _read_holdout_file(folder: Path) -> int:
    for file in folder.glob("hold=*"):
        if match := re.fullmatch(r"hold=(-?\d+)", file.name):
            return int(match[1])
    return 0


def _truths(folder: Path, paths: Sequence[Path], is_holdout: Sequence[bool]) -> tuple[Path | None, ...]:
    """Sharp pictures: those held out are their own."""
    sharp = _list_images(folder / "images_test")
    blurred = is_holdout.count(False)
    if sharp and len(sharp) not in (blurred, len(paths)):
        raise UnreadableMedia(
            f"{folder / 'images_test'}: has {len(sharp)} sharp pictures for {blurred} blurred ones;"
            " there must be as many"
        )
    if len(sharp) == len(paths):
        return tuple(sharp)
    rest = iter(sharp)
    return tuple(path if kept else next(rest, None) for path, kept in zip(paths, is_holdout, strict=True))
