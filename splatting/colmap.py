"""Cameras and points from blurred frames, by COLMAP (Schönberger & Frahm 2016), where it is installed.

Settings follow DeblurGS (arXiv:2404.11358): features that bear stretching, and a mapper that bears features
some pixels off. What blurs least is placed first; the rest is added to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import cv2
from torch import Tensor

from ..data.color import SRGB, to_signal
from ..data.errors import MissingExtra, NoScene
from ..data.photos import read_photo
from .colmap_model import Model, read_model
from .trajectory import Views

FEWEST = 3  # cameras of a scene
ENOUGH, ALMOST = 0.5, 0.9  # of the frames: what must be placed, and what ends the search
EXHAUSTIVE = 25  # frames up to which every one is compared with every other
AHEAD = 10  # frames that a frame of a clip is compared with
USUAL = 1000  # pixels of the longer side for which the thresholds below were made
SEED = 0

Order = Literal["clip", "photos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What of N frames was placed."""

    numbers: tuple[int, ...]  # [M] of the frames, rising
    views: Views  # of those
    points: Tensor  # [P, 3]
    colours: Tensor  # [P, 3] sRGB codes in [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One run of COLMAP in a folder of its own."""

    folder: Path
    side: int  # pixels of the longer side
    steady: bool  # the lens is known

    @property
    def database(self) -> Path:
        return self.folder / "database.db"

    @property
    def images(self) -> Path:
        return self.folder / "images"


def poses_from(
    images: Sequence[Path | Tensor],
    *,
    order: Order = "clip",
    lens: Tensor | None = None,
    static: Tensor | None = None,
) -> Placed:
    """Find the cameras that took some frames of one scene, and points of it.

    Args:
        images: Photo files, or [3, H, W] linear light; all of one size, by one lens.
        order: Frames of a `clip` are compared with their neighbours, `photos` with each other.
        lens: [3, 3] pixels, pixel centres at integers, if it is known.
        static: [N, H, W], more than 1/2 where features may lie: not on movers, not on overlays.

    Raises:
        MissingExtra: pycolmap is not installed.
        NoScene: Too few frames could be placed.
    """
    pycolmap = _pycolmap()
    with TemporaryDirectory(prefix="freezeframe-") as folder:
        sharp, size = _laid_out(images, Path(folder), static)
        work = _Work(folder=Path(folder), side=max(size), steady=lens is not None)
        _extract(pycolmap, work, lens=lens, masked=static is not None)
        _match(pycolmap, work, every=order == "photos" or len(images) <= EXHAUSTIVE)
        found = _mapped(pycolmap, work, sharp)
    return _placed(found, images)


def _pycolmap() -> Any:
    try:
        import pycolmap
    except ImportError as error:
        raise MissingExtra("pycolmap", "sfm", "finding the cameras of a scene with depth") from error
    pycolmap.logging.minloglevel = 3
    return pycolmap


def _laid_out(
    images: Sequence[Path | Tensor], folder: Path, static: Tensor | None
) -> tuple[list[str], tuple[int, int]]:
    """Write the frames where COLMAP looks for them; their names, the sharpest first, and their size."""
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    sharpness: dict[str, float] = {}
    sizes = set()
    for k, image in enumerate(images):
        light = image if isinstance(image, Tensor) else read_photo(image).linear()
        codes = (
            (to_signal(light.detach().cpu().clamp(0, 1), SRGB) * 255).round().byte().permute(1, 2, 0).numpy()
        )
        cv2.imwrite(str(folder / "images" / _name(k)), codes[..., ::-1])
        if static is not None:
            kept = (static[k] > 0.5).byte().cpu().numpy() * 255
            cv2.imwrite(str(folder / "masks" / f"{_name(k)}.png"), kept)
        grey = cv2.cvtColor(codes, cv2.COLOR_RGB2GRAY)
        sharpness[_name(k)] = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        sizes.add(grey.shape)
    if len(sizes) != 1:
        raise NoScene(f"the frames are of {len(sizes)} sizes; a scene needs frames of one size")
    height, width = sizes.pop()
    return sorted(sharpness, key=lambda name: -sharpness[name]), (height, width)


def _name(number: int) -> str:
    return f"{number:06d}.png"


def _extract(pycolmap: Any, work: _Work, *, lens: Tensor | None, masked: bool) -> None:
    reader = pycolmap.ImageReaderOptions(camera_model="PINHOLE" if work.steady else "SIMPLE_PINHOLE")
    if lens is not None:
        # COLMAP counts from the corner of the first pixel.
        numbers = (lens[0, 0], lens[1, 1], lens[0, 2] + 0.5, lens[1, 2] + 0.5)
        reader.camera_params = ",".join(f"{float(number):.6f}" for number in numbers)
    if masked:
        reader.mask_path = work.folder / "masks"
    features = pycolmap.FeatureExtractionOptions(use_gpu=False)
    features.sift.estimate_affine_shape = True
    features.sift.domain_size_pooling = True
    pycolmap.extract_features(
        work.database, work.images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
        extraction_options=features, device=pycolmap.Device.cpu,
    )  # fmt: skip


def _match(pycolmap: Any, work: _Work, *, every: bool) -> None:
    options: dict[str, Any] = {
        "matching_options": pycolmap.FeatureMatchingOptions(use_gpu=False, guided_matching=True),
        "verification_options": pycolmap.TwoViewGeometryOptions(),
        "device": pycolmap.Device.cpu,
    }
    options["verification_options"].ransac.random_seed = SEED
    if every:
        pycolmap.match_exhaustive(work.database, **options)
    else:
        pairs = pycolmap.SequentialPairingOptions(overlap=AHEAD, quadratic_overlap=True)
        pycolmap.match_sequential(work.database, pairing_options=pairs, **options)


def _mapped(pycolmap: Any, work: _Work, sharp: Sequence[str]) -> Model | None:
    """The largest model: around the sharpest half, else from all at once, else of all directions together."""
    core = _incremental(pycolmap, work, sharp[: max(FEWEST, len(sharp) // 2)])
    found = [core, core and _incremental(pycolmap, work, sharp, start=core)]
    for attempt in (partial(_incremental, names=sharp), _global):
        if max(map(_count, found)) < ALMOST * len(sharp):
            found.append(attempt(pycolmap, work))
    best = max(found, key=_count)
    if best is None:
        return None
    (work.folder / "best").mkdir()
    best.write(work.folder / "best")
    return read_model(work.folder / "best")


def _count(model: Any) -> int:
    return 0 if model is None else int(model.num_reg_images())


def _largest(models: Mapping[int, Any]) -> Any:
    return max(models.values(), key=_count, default=None)


def _incremental(pycolmap: Any, work: _Work, names: Sequence[str], *, start: Any = None) -> Any:
    options = mapper_options(pycolmap, side=work.side, steady=work.steady)
    options.image_names = list(names)
    output = work.folder / "models"
    output.mkdir(exist_ok=True)
    given = {}
    if start is not None:
        given["input_path"] = work.folder / "start"
        given["input_path"].mkdir()
        start.write(given["input_path"])
    models = pycolmap.incremental_mapping(work.database, work.images, output, options=options, **given)
    return _largest(models)


def _global(pycolmap: Any, work: _Work) -> Any:
    output = work.folder / "global"
    output.mkdir()
    try:
        models = pycolmap.global_mapping(work.database, work.images, output)
    except (RuntimeError, ValueError):  # it gives up with either
        return None
    return _largest(models)


def mapper_options(pycolmap: Any, *, side: int, steady: bool) -> Any:
    """A mapper that bears blurred features, and the small parallax of a clip.

    Args:
        pycolmap: The module.
        side: Pixels of the longer side.
        steady: The lens is known and stays as it is.
    """
    loose = max(0.4, side / USUAL)
    options = pycolmap.IncrementalPipelineOptions(
        min_num_matches=5,
        min_model_size=FEWEST,
        ba_refine_focal_length=not steady,
        ba_global_max_num_iterations=100,
        random_seed=SEED,
    )
    mapper, points = options.mapper, options.triangulation
    mapper.init_min_tri_angle, mapper.ba_local_min_tri_angle, mapper.filter_min_tri_angle = 2.0, 1.0, 0.3
    points.min_angle = 0.3
    mapper.init_max_error, mapper.abs_pose_max_error, mapper.filter_max_reproj_error = (
        12 * loose,
        20 * loose,
        8 * loose,
    )
    mapper.init_min_num_inliers, mapper.abs_pose_min_num_inliers = 30, 15
    mapper.abs_pose_min_inlier_ratio = 0.12
    points.ignore_two_view_tracks = True
    mapper.random_seed = points.random_seed = SEED
    return options


def _placed(found: Model | None, images: Sequence[Path | Tensor]) -> Placed:
    numbers = tuple(int(Path(name).stem) for name in found.names) if found else ()
    if found is None or len(numbers) < max(FEWEST, ENOUGH * len(images)):
        lost = [_called(images[k], k) for k in range(len(images)) if k not in numbers]
        raise NoScene(
            f"COLMAP placed {len(numbers)} of {len(images)} frames, not {', '.join(lost[:5])}"
            f"{' ...' if len(lost) > 5 else ''}: too blurred, sharing too little, or without depth; give"
            " sharper or more frames, or poses of your own (--poses)"
        )
    views = Views(poses=found.poses, lenses=found.lenses)
    return Placed(numbers=numbers, views=views, points=found.points, colours=found.colours)


def _called(image: Path | Tensor, number: int) -> str:
    return f"frame {number}" if isinstance(image, Tensor) else Path(image).name
