"""Photographs as backgrounds, and the cameras before them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.scene2d.cutouts import PIXEL_SIGMA, TEXTURE_SCALE, detail, premultiply
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Matrix
from freezeframe.data.synthesis.scene2d.motion import ScalarFunction, smooth_noise, translation, zoom
from freezeframe.data.synthesis.scene2d.patterns import Generator
from freezeframe.pipeline.bench.methods import read

from .shot import ClipFormat

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
UNSUITABLE = (  # dark, or mostly out of focus
    *("elem_Northern_Lights", "elem_Carmine_De_Fazio", "elem_Jairo_Alzate", "elem_Sam_Henderson"),
    "elem_Pablo_Garcia_Saldana",
)
FOLIAGE = ("elem_Disco_Sea_Eye_Ferns", "kodim13", "kodim22")
WATER = ("elem_Jonas_Nilsson_Lee", "kodim06", "kodim12", "kodim16", "elem_Rob_Bye", "kodim21")
MIN_DENSITY = 1.5  # photograph pixels per frame pixel
CANDIDATES = 4  # crops of a photograph, of which the one of most detail is taken
MARGIN = 12  # pixels of background around what a steady pan shows, for camera shake


def _still(_: float) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class CameraPath:
    """A pan, and shake that also moves everything that the pan follows. Pixels over frame numbers."""

    pan: float = 0.0  # pixels per frame interval
    shake_x: ScalarFunction = _still
    shake_y: ScalarFunction = _still

    def shake(self, t: float) -> Matrix:
        """Where the shake moves a point of the frame."""
        return translation(self.shake_x(t), self.shake_y(t))

    def view(self, t: float) -> Matrix:
        """Where a point of the background is in the frame; at time 0 the frame itself, apart from shake."""
        matrix: Matrix = self.shake(t) @ translation(-self.pan * t, 0)
        return matrix

    def shaken(self, motion: HomographyFunction) -> HomographyFunction:
        """`motion` in the frame of a camera without shake, as this camera sees it."""
        return lambda t: self.shake(t) @ motion(t)


def panning_camera(rng: Generator) -> CameraPath:
    """A pan of 8 to 12 pixels per frame to either side, with a little shake."""
    speed = rng.uniform(8, 12) * rng.choice([-1, 1])
    return CameraPath(
        float(speed), smooth_noise(rng, size=0.6, rate=0.06), smooth_noise(rng, size=1.2, rate=0.06)
    )


def shaking_camera(rng: Generator) -> CameraPath:
    """A handheld camera: shake of a few pixels."""
    return CameraPath(0.0, smooth_noise(rng, size=2.5, rate=0.15), smooth_noise(rng, size=2.0, rate=0.15))


def photograph_layer(
    rng: Generator, camera: CameraPath, clip: ClipFormat, names: tuple[str, ...] = ()
) -> Layer:
    """A sharp crop of a photograph as large as all that the camera shows; of one of `names`, if given."""
    width = clip.size[1] + abs(camera.pan) * clip.frames + 2 * MARGIN
    height = clip.size[0] + 2 * MARGIN
    crop = _crop(rng, (height, width), names)
    density = crop.shape[1] / width
    start = -MARGIN - max(-camera.pan, 0) * clip.frames
    placement = translation(start, -MARGIN) @ zoom(1 / density)
    return Layer(
        texture=premultiply(crop, None, sigma=PIXEL_SIGMA),
        homography=lambda t: camera.view(t) @ placement,
        mirrored=True,
    )


def _crop(rng: Generator, size: tuple[float, float], names: tuple[str, ...]) -> SrgbImage:
    """A random crop of the proportions of `size`, with up to `TEXTURE_SCALE` pixels per pixel of it."""
    height, width = size
    large = [
        name
        for name, photo_size in _sizes().items()
        if (not names or name in names) and _density(photo_size, size) >= MIN_DENSITY
    ]
    picture = photograph(rng, tuple(large))
    density = rng.uniform(MIN_DENSITY, _density(picture.shape[:2], size))
    crop = detailed_crop(rng, picture, (int(height * density), int(width * density)))
    if density <= TEXTURE_SCALE:
        return crop
    small = (round(width * TEXTURE_SCALE), round(height * TEXTURE_SCALE))
    return np.asarray(cv2.resize(crop, small, interpolation=cv2.INTER_AREA), np.uint8)


def detailed_crop(rng: Generator, picture: SrgbImage, size: tuple[int, int]) -> SrgbImage:
    """The crop of most detail of a few random crops."""
    rows, columns = size
    crops = []
    for _ in range(CANDIDATES):
        top = int(rng.integers(picture.shape[0] - rows + 1))
        left = int(rng.integers(picture.shape[1] - columns + 1))
        crops.append(picture[top : top + rows, left : left + columns])
    return max(crops, key=detail)


def _density(photo_size: tuple[int, ...], size: tuple[float, float]) -> float:
    return min(photo_size[0] / size[0], photo_size[1] / size[1])


def photograph(rng: Generator, names: tuple[str, ...] = ()) -> SrgbImage:
    """One of the photographs of these names, by default of all."""
    chosen = names or tuple(_sizes())
    return _picture(chosen[int(rng.integers(len(chosen)))])


@lru_cache(maxsize=12)
def _picture(name: str) -> SrgbImage:
    return read(_files()[name])


@cache
def _sizes() -> dict[str, tuple[int, int]]:
    """Height and width of the landscape photographs by name, without the unsuitable ones."""
    sizes = {}
    for name, file in _files().items():
        with Image.open(file) as header:
            width, height = header.size
        if width > height and name not in UNSUITABLE:
            sizes[name] = (height, width)
    return sizes


@cache
def _files() -> dict[str, Path]:
    """All photographs by name.

    Raises:
        SystemExit: They are not here.
    """
    files = sorted([*(DATA / "train").glob("*.webp"), *(DATA / "test" / "photos").glob("*.png")])
    if not files:
        raise SystemExit("needs the photographs in ../shared/data")
    return {file.name.split(".")[0]: file for file in files}
