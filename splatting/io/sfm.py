"""Structure from motion on blurred frames by COLMAP (Schönberger & Frahm 2016), if it is installed.

Settings follow DeblurGS (arXiv:2404.11358): affine-adapted features, and a mapper that tolerates errors of
some pixels. The sharpest frames are registered first.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.errors import MissingExtra, NoScene
from freezeframe.data.media.photo.files import read_photo
from freezeframe.splatting.camera.trajectory import Views

from .colmap_reader import Model, read_model
from .colmap_worker import STEPS, ColmapConfig, ColmapJob, FrameOrder

STEP_NAMES = ("detecting features", "matching features", "mapping")  # of STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimit:
    """Time limit of COLMAP."""

    seconds: float = 60.0
    check_deadline: Callable[[], None] = lambda: None  # called at intervals; may raise
    poll_seconds: float = 0.2  # interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Registered frames of a scene, and its points."""

    numbers: tuple[int, ...]  # [M] indices of the frames, increasing
    views: Views  # their cameras
    points: Tensor  # [P, 3]
    colours: Tensor  # [P, 3] encoded sRGB in [0, 1]


def run_colmap(
    images: Sequence[Path | Tensor],
    *,
    order: FrameOrder = "clip",
    K: Tensor | None = None,
    static: Tensor | None = None,
    limit: TimeLimit = TimeLimit(),
) -> Registration:
    """Estimate cameras and points of one scene. Takes no gradient.

    Args:
        images: Photo files, or [3, H, W] linear RGB; all of one size and one camera.
        order: Frames of a `clip` are matched with those that follow, `photos` with all others.
        K: [3, 3] intrinsics in pixels, pixel centres at integers, if known.
        static: [N, H, W], features are detected where it exceeds 1/2: not on movers and overlays.
        limit: Time limit.

    Raises:
        MissingExtra: pycolmap is not installed.
        NoScene: Too few frames could be registered, or the time limit was exceeded.
    """
    _check_pycolmap()
    config = ColmapConfig()
    with TemporaryDirectory(prefix="freezeframe-") as folder:
        sharpest_first, size = _write_images(images, Path(folder), static)
        job = ColmapJob(
            folder=Path(folder),
            sharpest_first=tuple(sharpest_first),
            long_side=max(size),
            K=_to_colmap(K),
            masked=static is not None,
            exhaustive=order == "photos" or len(images) <= config.exhaustive_max_frames,
            config=config,
        )
        model = _run_subprocess(job, limit)
    return _to_registration(model, images, config)


def _check_pycolmap() -> None:
    # Not imported here: it installs a handler of SIGTERM that prints a stack trace.
    if find_spec("pycolmap") is None:
        raise MissingExtra("pycolmap", "sfm", "estimating the cameras of a scene with depth")


def _to_colmap(K: Tensor | None) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy in COLMAP's convention: pixel centres at half-integers."""
    if K is None:
        return None
    fx, fy, cx, cy = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return fx, fy, cx + 0.5, cy + 0.5


def _run_subprocess(job: ColmapJob, limit: TimeLimit) -> Model | None:
    """Run COLMAP in a subprocess with a time limit; None if it registers nothing."""
    job.save()
    # -P: modules in the current directory are not imported.
    command = [sys.executable, "-P", "-m", "freezeframe.splatting.io.colmap_worker", str(job.folder)]
    end = time.monotonic() + limit.seconds
    with (
        (job.folder / "steps").open("w+") as steps,
        (job.folder / "stderr").open("w+") as stderr_file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=steps, stderr=stderr_file) as child,
    ):
        try:
            while child.poll() is None:
                limit.check_deadline()
                if time.monotonic() > end:
                    raise NoScene(_timeout_message(job, limit.seconds))
                time.sleep(limit.poll_seconds)
        finally:
            child.kill()
        if child.returncode:
            stderr_file.seek(0)
            last = stderr_file.read().strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
            raise NoScene(f"COLMAP failed ({last[0]}); give camera poses of your own (--poses)")
    best = job.folder / "best"
    return read_model(best) if best.is_dir() else None


def _timeout_message(job: ColmapJob, seconds: float) -> str:
    num_finished = len((job.folder / "steps").read_text().splitlines())
    step = STEP_NAMES[min(num_finished, len(STEPS) - 1)]
    return (
        f"COLMAP was still {step} after {math.ceil(seconds)} s; give it more time (--budget), fewer or"
        " smaller frames, or camera poses of your own (--poses)"
    )


def _write_images(
    images: Sequence[Path | Tensor], folder: Path, static: Tensor | None
) -> tuple[list[str], tuple[int, int]]:
    """Write frames and masks; returns the file names by decreasing sharpness, and the size."""
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    sharpness: dict[str, float] = {}
    sizes = set()
    for k, image in enumerate(images):
        linear = image if isinstance(image, Tensor) else read_photo(image).linear()
        encoded = (
            (to_encoded(linear.detach().cpu().clamp(0, 1), SRGB) * 255)
            .round()
            .byte()
            .permute(1, 2, 0)
            .numpy()
        )
        cv2.imwrite(str(folder / "images" / _file_name(k)), encoded[..., ::-1])
        if static is not None:
            mask = (static[k] > 0.5).byte().cpu().numpy() * 255
            cv2.imwrite(str(folder / "masks" / f"{_file_name(k)}.png"), mask)
        grey = cv2.cvtColor(encoded, cv2.COLOR_RGB2GRAY)
        sharpness[_file_name(k)] = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        sizes.add(grey.shape)
    if len(sizes) != 1:
        raise NoScene(f"the frames have {len(sizes)} sizes; a scene needs frames of one size")
    height, width = sizes.pop()
    return sorted(sharpness, key=lambda name: -sharpness[name]), (height, width)


def _file_name(number: int) -> str:
    return f"{number:06d}.png"


def _to_registration(
    model: Model | None, images: Sequence[Path | Tensor], config: ColmapConfig
) -> Registration:
    numbers = tuple(int(Path(name).stem) for name in model.names) if model else ()
    min_registered = max(config.min_cameras, config.min_registered_fraction * len(images))
    if model is None or len(numbers) < min_registered:
        unregistered = [_frame_label(images[k], k) for k in range(len(images)) if k not in numbers]
        raise NoScene(
            f"COLMAP registered {len(numbers)} of {len(images)} frames, not {', '.join(unregistered[:5])}"
            f"{' ...' if len(unregistered) > 5 else ''}: too blurred, too little overlap, or no parallax;"
            " give sharper or more frames, or camera poses of your own (--poses)"
        )
    views = Views(viewmats=model.viewmats, Ks=model.Ks)
    return Registration(numbers=numbers, views=views, points=model.points, colours=model.colours)


def _frame_label(image: Path | Tensor, number: int) -> str:
    return f"frame {number}" if isinstance(image, Tensor) else Path(image).name
