"""Reads what COLMAP leaves in a folder: cameras, images and points, in binary or text ("Output Format").

COLMAP counts pixels from the corner of the first one, we from its centre.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.splatting.camera.lie import compose_se3
from freezeframe.splatting.rasterizer.projected import covariance_roots

# How many of a lens' numbers are no distortion, and how many are; in the order of COLMAP's own numbers.
MODELS = {
    "SIMPLE_PINHOLE": (3, 0),
    "PINHOLE": (4, 0),
    "SIMPLE_RADIAL": (3, 1),
    "RADIAL": (3, 2),
    "OPENCV": (4, 4),
    "OPENCV_FISHEYE": (4, 4),
    "FULL_OPENCV": (4, 8),
    "FOV": (4, 1),
    "SIMPLE_RADIAL_FISHEYE": (3, 1),
    "RADIAL_FISHEYE": (3, 2),
    "THIN_PRISM_FISHEYE": (4, 8),
}
NONLINEAR_MODELS = {"FOV", *(kind for kind in MODELS if kind.endswith("FISHEYE"))}
UNDISTORT_HINT = "run `colmap image_undistorter` and name its folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """N images in the order of their names, and P points."""

    names: tuple[str, ...]
    viewmats: Tensor  # [N, 4, 4] world to camera
    Ks: Tensor  # [N, 3, 3] pixels of `sizes`, pixel centres at integers
    sizes: tuple[tuple[int, int], ...]  # height and width of each image as COLMAP saw it
    points: Tensor  # [P, 3]
    colours: Tensor  # [P, 3] sRGB codes in [0, 1]


@dataclass(frozen=True, slots=True)
class _Camera:
    kind: str
    size: tuple[int, int]  # height, width
    numbers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Image:
    name: str
    camera: int
    quaternion: tuple[float, ...]  # w, x, y, z
    translation: tuple[float, ...]


_Point = tuple[tuple[float, ...], tuple[int, ...]]  # place, colour in bytes


def find_model(folder: str | Path) -> Path | None:
    """The folder with COLMAP's files: this one, or where COLMAP puts it within a project."""
    places = [Path(folder) / inner for inner in ("", "sparse/0", "sparse", "colmap/sparse/0", "0")]
    return next((each for each in places if _find_file(each, "images") and _find_file(each, "cameras")), None)


def read_model(folder: str | Path) -> Model:
    """Read the model in a folder, or in its `sparse/0`.

    Raises:
        UnreadableMedia: There is none, it is damaged, or a lens bends straight lines.
    """
    place = find_model(folder)
    if place is None:
        raise UnreadableMedia(
            f"{folder}: holds no COLMAP model; name the folder of cameras.bin and images.bin"
        )
    cameras = dict(_read(place, "cameras", (_binary_cameras, _text_cameras)))
    images = sorted(_read(place, "images", (_binary_images, _text_images)), key=lambda image: image.name)
    seen = _read(place, "points3D", (_binary_points, _text_points)) if _find_file(place, "points3D") else []
    if not images:
        raise UnreadableMedia(f"{place}: COLMAP found the place of no image; give it sharper ones")
    for image in images:
        if image.camera not in cameras:
            raise UnreadableMedia(
                f"{place}: {image.name} is of camera {image.camera}, which is not there; export anew"
            )
    Ks = {number: _intrinsics(camera, place) for number, camera in cameras.items()}
    rotations = covariance_roots(
        torch.tensor([each.quaternion for each in images], dtype=torch.float64), torch.ones(1, 3)
    )
    return Model(
        names=tuple(each.name for each in images),
        viewmats=compose_se3(
            rotations, torch.tensor([each.translation for each in images], dtype=torch.float64)
        ).float(),
        Ks=torch.stack([Ks[each.camera] for each in images]),
        sizes=tuple(cameras[each.camera].size for each in images),
        points=torch.tensor([place for place, _ in seen]).reshape(-1, 3),
        colours=torch.tensor([colour for _, colour in seen]).reshape(-1, 3) / 255,
    )


def _intrinsics(camera: _Camera, place: Path) -> Tensor:
    """[3, 3] of a camera that draws straight lines straight."""
    num_linear, _ = MODELS[camera.kind]
    if camera.kind in NONLINEAR_MODELS or any(camera.numbers[num_linear:]):
        raise UnreadableMedia(f"{place}: the {camera.kind} lens bends straight lines; {UNDISTORT_HINT}")
    fx, fy, cx, cy = camera.numbers[:4] if num_linear == 4 else (camera.numbers[0], *camera.numbers[:3])
    return torch.tensor([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])


def _find_file(place: Path, name: str) -> Path | None:
    return next((file for end in (".bin", ".txt") if (file := place / (name + end)).is_file()), None)


def _read(place: Path, name: str, readers: tuple[Callable, Callable]) -> list:  # type: ignore[type-arg]
    file = _find_file(place, name)
    assert file is not None
    try:
        return list(readers[0](file.read_bytes()) if file.suffix == ".bin" else readers[1](_lines(file)))
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise UnreadableMedia(f"{file}: is damaged ({error}); export the model anew") from error


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


class _BinaryReader:
    """Numbers from the front of a file, one group after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def read(self, form: str) -> tuple[float, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def read_int(self, form: str) -> int:
        return int(self.read(form)[0])

    def skip(self, count: int) -> None:
        self.at += count

    def word(self) -> str:
        stop = self.data.index(b"\0", self.at)
        word = self.data[self.at : stop].decode()
        self.at = stop + 1
        return word


def _binary_cameras(data: bytes) -> Iterator[tuple[int, _Camera]]:
    source = _BinaryReader(data)
    for _ in range(source.read_int("Q")):
        number, kind, width, height = (int(value) for value in source.read("iiQQ"))
        if not 0 <= kind < len(MODELS):
            raise ValueError(f"lens number {kind} is not known")
        name = list(MODELS)[kind]
        yield number, _Camera(name, (height, width), source.read(f"{sum(MODELS[name])}d"))


def _text_cameras(lines: Sequence[str]) -> Iterator[tuple[int, _Camera]]:
    for number, kind, width, height, *numbers in (line.split() for line in lines if line.strip()):
        if len(numbers) != sum(MODELS.get(kind, ())):
            raise ValueError(f"a {kind} camera of {len(numbers)} numbers")
        yield int(number), _Camera(kind, (int(height), int(width)), tuple(map(float, numbers)))


def _binary_images(data: bytes) -> Iterator[_Image]:
    source = _BinaryReader(data)
    for _ in range(source.read_int("Q")):
        source.read_int("i")
        quaternion, translation, camera, name = (
            source.read("4d"),
            source.read("3d"),
            source.read_int("i"),
            source.word(),
        )
        source.skip(24 * source.read_int("Q"))  # where it shows which points
        yield _Image(name, camera, quaternion, translation)


def _text_images(lines: Sequence[str]) -> Iterator[_Image]:
    # Every second line tells of points, and may be empty.
    for line in lines[::2]:
        _, *numbers, camera, name = line.split(maxsplit=9)
        values = tuple(map(float, numbers))
        yield _Image(name, int(camera), values[:4], values[4:])


def _binary_points(data: bytes) -> Iterator[_Point]:
    source = _BinaryReader(data)
    for _ in range(source.read_int("Q")):
        source.read_int("Q")
        place, colour = source.read("3d"), tuple(int(value) for value in source.read("3B"))
        source.read("d")
        source.skip(8 * source.read_int("Q"))  # the images that show it
        yield place, colour


def _text_points(lines: Sequence[str]) -> Iterator[_Point]:
    for line in lines:
        if words := line.split():
            yield tuple(map(float, words[1:4])), tuple(map(int, words[4:7]))
