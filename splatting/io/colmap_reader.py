"""Reader of COLMAP models: cameras, images and points, in binary or text (COLMAP, "Output Format").

COLMAP has pixel centres at half-integers.
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

# Numbers of linear and of distortion parameters, in the order of COLMAP's model ids.
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
    """Cameras of N images, sorted by name, and P points."""

    names: tuple[str, ...]
    viewmats: Tensor  # [N, 4, 4] world to camera
    Ks: Tensor  # [N, 3, 3] pixels of `sizes`, pixel centres at integers
    sizes: tuple[tuple[int, int], ...]  # height and width of each image in the model
    points: Tensor  # [P, 3]
    colours: Tensor  # [P, 3] encoded sRGB in [0, 1]


@dataclass(frozen=True, slots=True)
class _Camera:
    model: str
    size: tuple[int, int]  # height, width
    params: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Image:
    name: str
    camera: int
    quaternion: tuple[float, ...]  # w, x, y, z
    translation: tuple[float, ...]


_Point = tuple[tuple[float, ...], tuple[int, ...]]  # position, 8-bit colour


def find_model(folder: str | Path) -> Path | None:
    """The folder of the model's files: this one, or a subfolder where COLMAP writes models."""
    folders = [Path(folder) / inner for inner in ("", "sparse/0", "sparse", "colmap/sparse/0", "0")]
    return next(
        (each for each in folders if _find_file(each, "images") and _find_file(each, "cameras")), None
    )


def read_model(folder: str | Path) -> Model:
    """Read the model in a folder, or in its `sparse/0`.

    Raises:
        UnreadableMedia: There is no model, it is damaged, or its camera has lens distortion.
    """
    model = find_model(folder)
    if model is None:
        raise UnreadableMedia(
            f"{folder}: holds no COLMAP model; name the folder of cameras.bin and images.bin"
        )
    cameras = dict(_read(model, "cameras", (_binary_cameras, _text_cameras)))
    images = sorted(_read(model, "images", (_binary_images, _text_images)), key=lambda image: image.name)
    has_points = _find_file(model, "points3D")
    points = _read(model, "points3D", (_binary_points, _text_points)) if has_points else []
    if not images:
        raise UnreadableMedia(f"{model}: COLMAP registered no image; run it on sharper ones")
    for image in images:
        if image.camera not in cameras:
            raise UnreadableMedia(
                f"{model}: camera {image.camera} of {image.name} is missing; export the model again"
            )
    Ks = {camera_id: _intrinsics(camera, model) for camera_id, camera in cameras.items()}
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
        points=torch.tensor([position for position, _ in points]).reshape(-1, 3),
        colours=torch.tensor([colour for _, colour in points]).reshape(-1, 3) / 255,
    )


def _intrinsics(camera: _Camera, folder: Path) -> Tensor:
    """[3, 3] intrinsics of a camera without distortion."""
    num_linear, _ = MODELS[camera.model]
    if camera.model in NONLINEAR_MODELS or any(camera.params[num_linear:]):
        raise UnreadableMedia(f"{folder}: the {camera.model} camera has lens distortion; {UNDISTORT_HINT}")
    fx, fy, cx, cy = camera.params[:4] if num_linear == 4 else (camera.params[0], *camera.params[:3])
    return torch.tensor([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])


def _find_file(folder: Path, name: str) -> Path | None:
    return next((file for suffix in (".bin", ".txt") if (file := folder / (name + suffix)).is_file()), None)


def _read(folder: Path, name: str, readers: tuple[Callable, Callable]) -> list:  # type: ignore[type-arg]
    file = _find_file(folder, name)
    assert file is not None
    try:
        return list(readers[0](file.read_bytes()) if file.suffix == ".bin" else readers[1](_lines(file)))
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise UnreadableMedia(f"{file}: is damaged ({error}); export the model again") from error


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


class _BinaryReader:
    """Sequential reader of little-endian values."""

    def __init__(self, data: bytes) -> None:
        self.data, self.offset = data, 0

    def read(self, fmt: str) -> tuple[float, ...]:
        values = struct.unpack_from("<" + fmt, self.data, self.offset)
        self.offset += struct.calcsize("<" + fmt)
        return values

    def read_int(self, fmt: str) -> int:
        return int(self.read(fmt)[0])

    def skip(self, num_bytes: int) -> None:
        self.offset += num_bytes

    def read_string(self) -> str:
        """A null-terminated string."""
        stop = self.data.index(b"\0", self.offset)
        string = self.data[self.offset : stop].decode()
        self.offset = stop + 1
        return string


def _binary_cameras(data: bytes) -> Iterator[tuple[int, _Camera]]:
    source = _BinaryReader(data)
    for _ in range(source.read_int("Q")):
        camera_id, model_id, width, height = (int(value) for value in source.read("iiQQ"))
        if not 0 <= model_id < len(MODELS):
            raise ValueError(f"unknown camera model {model_id}")
        model = list(MODELS)[model_id]
        yield camera_id, _Camera(model, (height, width), source.read(f"{sum(MODELS[model])}d"))


def _text_cameras(lines: Sequence[str]) -> Iterator[tuple[int, _Camera]]:
    for camera_id, model, width, height, *params in (line.split() for line in lines if line.strip()):
        if len(params) != sum(MODELS.get(model, ())):
            raise ValueError(f"{len(params)} parameters of a {model} camera")
        yield int(camera_id), _Camera(model, (int(height), int(width)), tuple(map(float, params)))


def _binary_images(data: bytes) -> Iterator[_Image]:
    source = _BinaryReader(data)
    for _ in range(source.read_int("Q")):
        source.read_int("i")
        quaternion, translation, camera, name = (
            source.read("4d"),
            source.read("3d"),
            source.read_int("i"),
            source.read_string(),
        )
        source.skip(24 * source.read_int("Q"))  # 2D observations of points
        yield _Image(name, camera, quaternion, translation)


def _text_images(lines: Sequence[str]) -> Iterator[_Image]:
    # Every second line lists 2D observations, and may be empty.
    for line in lines[::2]:
        _, *pose, camera, name = line.split(maxsplit=9)
        values = tuple(map(float, pose))
        yield _Image(name, int(camera), values[:4], values[4:])


def _binary_points(data: bytes) -> Iterator[_Point]:
    source = _BinaryReader(data)
    for _ in range(source.read_int("Q")):
        source.read_int("Q")
        position, colour = source.read("3d"), tuple(int(value) for value in source.read("3B"))
        source.read("d")  # reprojection error
        source.skip(8 * source.read_int("Q"))  # track
        yield position, colour


def _text_points(lines: Sequence[str]) -> Iterator[_Point]:
    for line in lines:
        if words := line.split():
            yield tuple(map(float, words[1:4])), tuple(map(int, words[4:7]))
