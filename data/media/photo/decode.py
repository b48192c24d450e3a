"""Photo files to pictures, each kind by the library that loses nothing of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from freezeframe.data.color import LINEAR, SRGB, to_light_, to_signal
from freezeframe.data.errors import FreezeframeError, MissingExtra, UnreadableMedia, memory_ran_out
from freezeframe.data.media.files.suffixes import HEIF, PLAIN, RAW

from .exif import PREFIX, gathered, hushed, orientation, told, upright
from .photo import TURNS, PhotoPicture, Pixels
from .truncation import refuse_cut_off, refuse_hollow

LARGEST = 178_956_970  # pixels of a photo: Pillow refuses more. Medium format has 151 million
JPEG = {"JPEG", "MPO"}  # the second: JPEGs one after the other, as telephones write them

_FOREIGN = {
    "CMYK": "CMYK colours",
    "LAB": "Lab colours",
    "F": "floating-point samples",
    "I": "32-bit samples",
}


def decode(path: Path) -> PhotoPicture:
    """The photo in `path`, upright. What goes wrong is one sentence about the file."""
    suffix = path.suffix.lower()
    kind = _decode_raw if suffix in RAW else _decode_heif if suffix in HEIF else _decode_plain
    with saying_what(path):
        return kind(path)


def upright_size(path: Path) -> tuple[int, int] | None:
    """Height and width as shown, read off the header; None where only decoding tells."""
    if path.suffix.lower() not in PLAIN:
        return None
    with saying_what(path), hushed(), Image.open(path) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow has turned these already
            return height, width
        if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode it all to make sure
            return height, width
        turn = orientation(image.getexif())
    return (width, height) if turn > 4 else (height, width)


@contextmanager
def saying_what(path: Path) -> Iterator[None]:
    """Turn what a library says about a bad file into a sentence about it."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise _huge(path) from error
    except UnidentifiedImageError as error:
        raise UnreadableMedia(
            f"{path}: is not a photo of a kind that can be read; check that it opens"
        ) from error
    except FileNotFoundError as error:
        raise UnreadableMedia(f"{path}: there is no such file; check the spelling") from error
    except PermissionError as error:
        raise UnreadableMedia(f"{path}: may not be read; change its permissions") from error
    except FreezeframeError:
        raise
    except Exception as error:  # decoders raise all kinds on bad bytes
        if memory_ran_out(error):
            raise
        why = " ".join(str(error).split())
        raise UnreadableMedia(
            f"{path}: is cut off or damaged ({why}); use another copy of it, or leave it out"
        ) from error


def _refuse_huge(path: Path, size: tuple[int, int]) -> None:
    """The limit that Pillow keeps, for photos of other libraries."""
    if size[0] * size[1] > LARGEST:
        raise _huge(path)


def _huge(path: Path) -> UnreadableMedia:
    return UnreadableMedia(
        f"{path}: declares more than {LARGEST / 1e6:.0f} million pixels; cut or scale it down first"
    )


def _decode_plain(path: Path) -> PhotoPicture:
    data = path.read_bytes()
    with hushed(), Image.open(io.BytesIO(data)) as image:
        deep = image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in image.tile)
        if image.mode in _FOREIGN:
            raise UnreadableMedia(f"{path}: has {_FOREIGN[image.mode]}; convert it to RGB of 8 or 16 bits")
        turn = orientation(image.getexif()) if deep else 1
        if image.format in JPEG:
            refuse_hollow(path, image.size, data)
        image.load()  # all of it, so that a file cut short is noticed
        pixels = _deep(data, path) if deep else _shallow(image)
        if image.format in JPEG:
            refuse_cut_off(path, pixels, data)
        turn = turn if deep else orientation(image.getexif())
        exif = _exif_of(image)
        profile = image.info.get("icc_profile")
    return _upright(pixels, exif, profile, turn=turn, file=path)


def _exif_of(image: Image.Image) -> bytes | None:
    whole = image.info.get("exif")
    if isinstance(whole, bytes) and image.format != "TIFF":
        return whole.removeprefix(PREFIX) or None
    return gathered(image.getexif())


def _shallow(image: Image.Image) -> Pixels:
    """[H, W, 3 or 4] uint8."""
    clear = image.has_transparency_data
    return np.asarray(image.convert("RGBA" if clear else "RGB"))


def _deep(data: bytes, path: Path) -> Pixels:
    """[H, W, 3 or 4] uint16, as stored: Pillow knows no 16-bit colour, and OpenCV would turn a TIFF."""
    if data[:2] in (b"II", b"MM"):
        data = upright(data, turned=False)
    codes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if codes is None or codes.dtype != np.uint16:
        raise UnreadableMedia(f"{path}: its 16-bit samples cannot be read; save it as a 16-bit PNG")
    if codes.ndim == 2:
        return np.repeat(codes[..., None], 3, axis=2)
    return codes[..., [2, 1, 0, 3][: codes.shape[2]]]


def _upright(
    pixels: Pixels, exif: bytes | None, profile: Any, *, turn: int, file: Path | None
) -> PhotoPicture:
    """Turn pixels as an EXIF orientation asks, and say in the EXIF that it is done."""
    pixels = np.ascontiguousarray(TURNS[turn](pixels))
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    return PhotoPicture(
        pixels=np.ascontiguousarray(pixels[..., :3]),
        alpha=alpha,
        profile=profile if profile and profile[16:20] == b"RGB " else None,
        exif=upright(exif, turned=turn > 4) if exif else None,
        file=file,
    )


def _decode_heif(path: Path) -> PhotoPicture:
    """HEIC, with all its bits; its own turns are applied by the library."""
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingExtra("pillow-heif", "heif", f"{path}: a HEIC photo") from error
    image = pillow_heif.open_heif(path.read_bytes(), convert_hdr_to_8bit=False)
    _refuse_huge(path, image.size)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    exif = (image.info.get("exif") or b"").removeprefix(PREFIX) or None
    return _upright(pixels, exif, image.info.get("icc_profile"), turn=1, file=path)


def _decode_raw(path: Path) -> PhotoPicture:
    """Camera raw, developed plainly: the camera's white balance, no brightening, 16 bits in sRGB's curve."""
    try:
        import rawpy
    except ImportError as error:
        raise MissingExtra("rawpy", "raw", f"{path}: a camera raw photo") from error
    data = path.read_bytes()
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            _refuse_huge(path, (raw.sizes.width, raw.sizes.height))
            codes = raw.postprocess(gamma=(1, 1), no_auto_bright=True, use_camera_wb=True, output_bps=16)
    except rawpy.LibRawError as error:
        raise ValueError(str(error)) from error
    light = to_light_(torch.from_numpy(codes.astype(np.float32) / 65535), LINEAR)
    pixels = (to_signal(light, SRGB) * 65535).round_().numpy().astype(np.uint16)
    return PhotoPicture(pixels=pixels, exif=_raw_exif(data), file=path)


def _raw_exif(data: bytes) -> bytes | None:
    """Most raw files are TIFFs in disguise; of the others the EXIF is not read."""
    tags = told(data)
    exif = gathered(tags)
    return upright(exif, turned=orientation(tags) > 4) if exif else None
