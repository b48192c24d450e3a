"""Cameras and points from blurred frames, by COLMAP (Schönberger & Frahm 2016), where it is installed.

Settings follow DeblurGS (arXiv:2404.11358): features that bear stretching, and a mapper that bears features
some pixels off. What blurs least is placed first; the rest is added to it.
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
from .colmap_worker import EXHAUSTIVE_MAX_FRAMES, MIN_CAMERAS, STEPS, ColmapJob, FrameOrder

MIN_REGISTERED_FRACTION = 0.5  # of the frames that must be placed
TIMEOUT_SECONDS = 60.0  # seconds that COLMAP may take where nobody says how long
POLL_SECONDS = 0.2  # seconds between looks at how far it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What of N frames was placed."""

    numbers: tuple[int, ...]  # [M] of the frames, rising
    views: Views  # of those
    points: Tensor  # [P, 3]
    colours: Tensor  # [P, 3] sRGB codes in [0, 1]


def run_colmap(  # noqa: PLR0913
    images: Sequence[Path | Tensor],
    *,
    order: FrameOrder = "clip",
    K: Tensor | None = None,
    static: Tensor | None = None,
    seconds: float = TIMEOUT_SECONDS,
    check_deadline: Callable[[], None] = lambda: None,
) -> Registration:
    """Find the cameras that took some frames of one scene, and points of it. Takes no gradient.

    Args:
        images: Photo files, or [3, H, W] linear light; all of one size, by one lens.
        order: Frames of a `clip` are compared with their neighbours, `photos` with each other.
        K: [3, 3] pixels, pixel centres at integers, if it is known.
        static: [N, H, W], more than 1/2 where features may lie: not on movers, not on overlays.
        seconds: How long COLMAP may work.
        check_deadline: Called now and then while it works.

    Raises:
        MissingExtra: pycolmap is not installed.
        NoScene: Too few frames could be placed, or the time was not enough.
    """
    _pycolmap()
    with TemporaryDirectory(prefix="freezeframe-") as folder:
        sharpest_first, size = _write_images(images, Path(folder), static)
        job = ColmapJob(
            folder=Path(folder),
            sharpest_first=tuple(sharpest_first),
            long_side=max(size),
            K=_as_colmap(K),
            masked=static is not None,
            exhaustive=order == "photos" or len(images) <= EXHAUSTIVE_MAX_FRAMES,
        )
        model = _run_subprocess(job, seconds=seconds, check_deadline=check_deadline)
    return _to_registration(model, images)


def _pycolmap() -> None:
    # Not imported here: it takes SIGTERM over, and answers with a trace of its own.
    if find_spec("pycolmap") is None:
        raise MissingExtra("pycolmap", "sfm", "finding the cameras of a scene with depth")


def _as_colmap(K: Tensor | None) -> tuple[float, float, float, float] | None:
    """The numbers of a lens; COLMAP counts from the corner of the first pixel."""
    if K is None:
        return None
    fx, fy, cx, cy = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return fx, fy, cx + 0.5, cy + 0.5


def _run_subprocess(job: ColmapJob, *, seconds: float, check_deadline: Callable[[], None]) -> Model | None:
    """The model that COLMAP makes of the frames in a folder, in a process that ends when time does."""
    job.save()
    # -P: what lies in the folder that the user stands in is not imported.
    command = [sys.executable, "-P", "-m", "freezeframe.splatting.io.colmap_worker", str(job.folder)]
    end = time.monotonic() + seconds
    with (
        (job.folder / "steps").open("w+") as steps,
        (job.folder / "trouble").open("w+") as stderr_file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=steps, stderr=stderr_file) as child,
    ):
        try:
            while child.poll() is None:
                check_deadline()
                if time.monotonic() > end:
                    raise NoScene(_timeout_message(job, seconds))
                time.sleep(POLL_SECONDS)
        finally:
            child.kill()
        if child.returncode:
            stderr_file.seek(0)
            last = stderr_file.read().strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
            raise NoScene(f"COLMAP failed ({last[0]}); give poses of your own (--poses)")
    best = job.folder / "best"
    return read_model(best) if best.is_dir() else None


def _timeout_message(job: ColmapJob, seconds: float) -> str:
    done = len((job.folder / "steps").read_text().splitlines())
    at = ("finding features", "comparing frames", "placing cameras")[min(done, len(STEPS) - 1)]
    return (
        f"COLMAP was still {at} after {math.ceil(seconds)} s; give it more time (--budget), fewer or smaller"
        " frames, or poses of your own (--poses)"
    )


def _write_images(
    images: Sequence[Path | Tensor], folder: Path, static: Tensor | None
) -> tuple[list[str], tuple[int, int]]:
    """Write the frames where COLMAP looks for them; their names, the sharpest first, and their size."""
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
        cv2.imwrite(str(folder / "images" / _name(k)), encoded[..., ::-1])
        if static is not None:
            mask = (static[k] > 0.5).byte().cpu().numpy() * 255
            cv2.imwrite(str(folder / "masks" / f"{_name(k)}.png"), mask)
        grey = cv2.cvtColor(encoded, cv2.COLOR_RGB2GRAY)
        sharpness[_name(k)] = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        sizes.add(grey.shape)
    if len(sizes) != 1:
        raise NoScene(f"the frames are of {len(sizes)} sizes; a scene needs frames of one size")
    height, width = sizes.pop()
    return sorted(sharpness, key=lambda name: -sharpness[name]), (height, width)


def _name(number: int) -> str:
    return f"{number:06d}.png"


def _to_registration(model: Model | None, images: Sequence[Path | Tensor]) -> Registration:
    numbers = tuple(int(Path(name).stem) for name in model.names) if model else ()
    if model is None or len(numbers) < max(MIN_CAMERAS, MIN_REGISTERED_FRACTION * len(images)):
        unregistered = [_frame_label(images[k], k) for k in range(len(images)) if k not in numbers]
        raise NoScene(
            f"COLMAP placed {len(numbers)} of {len(images)} frames, not {', '.join(unregistered[:5])}"
            f"{' ...' if len(unregistered) > 5 else ''}: too blurred, sharing too little, or without depth; give"
            " sharper or more frames, or poses of your own (--poses)"
        )
    views = Views(viewmats=model.viewmats, Ks=model.Ks)
    return Registration(numbers=numbers, views=views, points=model.points, colours=model.colours)


def _frame_label(image: Path | Tensor, number: int) -> str:
    return f"frame {number}" if isinstance(image, Tensor) else Path(image).name
