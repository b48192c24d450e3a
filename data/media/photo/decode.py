"""Decoding of photo files, each format by the library that keeps all of its bits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from freezeframe.data.color import LINEAR, SRGB, to_encoded, to_linear_
from freezeframe.data.errors import MissingExtra, UnreadableMedia
from freezeframe.data.media.files.error_translation import MAX_PIXELS, too_many_pixels, translate_read_errors
from freezeframe.data.media.files.suffixes import HEIF, PLAIN, RAW

from .exif import PREFIX, normalize_orientation, orientation, parse_tags, serialize_tags, suppress_warnings
from .photo import EXIF_TRANSPOSE, PhotoPicture, Pixels
from .truncation import check_data_size, check_truncation

JPEG_FORMATS = {"JPEG", "MPO"}  # MPO: several JPEGs in one file, written by phones

_UNSUPPORTED_MODES = {
    "CMYK": "CMYK colours",
    "LAB": "Lab colours",
    "F": "floating-point samples",
    "I": "32-bit samples",
}


def decode(path: Path) -> PhotoPicture:
    """Decode a photo, in upright orientation.

    Raises:
        UnreadableMedia: The file is missing, damaged or of an unsupported format.
        MissingExtra: The library for its format is not installed.
    """
    suffix = path.suffix.lower()
    decoder = _decode_raw if suffix in RAW else _decode_heif if suffix in HEIF else _decode_plain
    with translate_read_errors(path):
        return decoder(path)


def display_size(path: Path) -> tuple[int, int] | None:
    """Height and width in upright orientation, from the header; None if that requires decoding."""
    if path.suffix.lower() not in PLAIN:
        return None
    with translate_read_errors(path), suppress_warnings(), Image.open(path) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow has rotated it
            return height, width
        if image.format == "PNG" and "exif" not in image.info:  # `getexif` would decode the image
            return height, width
        exif_orientation = orientation(image.getexif())
    return (width, height) if exif_orientation > 4 else (height, width)


def _check_size(path: Path, size: tuple[int, int]) -> None:
    """Apply Pillow's size limit to photos decoded by other libraries."""
    if size[0] * size[1] > MAX_PIXELS:
        raise too_many_pixels(path)


def _decode_plain(path: Path) -> PhotoPicture:
    data = path.read_bytes()
    with suppress_warnings(), Image.open(io.BytesIO(data)) as image:
        if image.mode in _UNSUPPORTED_MODES:
            raise UnreadableMedia(
                f"{path}: has {_UNSUPPORTED_MODES[image.mode]}; convert it to RGB of 8 or 16 bits"
            )
        is_16_bit = image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in image.tile)
        # Pillow rotates a TIFF in `load`; OpenCV, which decodes 16 bits, reads the samples as stored.
        stored_orientation = orientation(image.getexif()) if is_16_bit else 1
        if image.format in JPEG_FORMATS:
            check_data_size(path, image.size, data)
        image.load()  # completely, to detect a truncated file
        pixels = _decode_16_bit(data, path) if is_16_bit else _decode_8_bit(image)
        if image.format in JPEG_FORMATS:
            check_truncation(path, pixels, data)
        exif_orientation = stored_orientation if is_16_bit else orientation(image.getexif())
        exif, profile = _read_exif(image), image.info.get("icc_profile")
    return _make_photo(pixels, exif, profile, exif_orientation=exif_orientation, file=path)


def _read_exif(image: Image.Image) -> bytes | None:
    exif_block = image.info.get("exif")
    if isinstance(exif_block, bytes) and image.format != "TIFF":
        return exif_block.removeprefix(PREFIX) or None
    return serialize_tags(image.getexif())


def _decode_8_bit(image: Image.Image) -> Pixels:
    """[H, W, 3 or 4] uint8."""
    has_alpha = image.has_transparency_data
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _decode_16_bit(data: bytes, path: Path) -> Pixels:
    """[H, W, 3 or 4] uint16 as stored. Pillow has no 16-bit colour; OpenCV would rotate a TIFF."""
    if data[:2] in (b"II", b"MM"):
        data = normalize_orientation(data, rotated_90=False)
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise UnreadableMedia(f"{path}: its 16-bit samples cannot be read; save it as a 16-bit PNG")
    if samples.ndim == 2:
        return np.repeat(samples[..., None], 3, axis=2)
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]]


def _make_photo(
    pixels: Pixels, exif: bytes | None, profile: Any, *, exif_orientation: int, file: Path | None
) -> PhotoPicture:
    """Apply an EXIF orientation to the pixels, and reset it in the EXIF."""
    pixels = np.ascontiguousarray(EXIF_TRANSPOSE[exif_orientation](pixels))
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    return PhotoPicture(
        pixels=np.ascontiguousarray(pixels[..., :3]),
        alpha=alpha,
        profile=profile if profile and profile[16:20] == b"RGB " else None,
        exif=normalize_orientation(exif, rotated_90=exif_orientation > 4) if exif else None,
        file=file,
    )


def _decode_heif(path: Path) -> PhotoPicture:
    """HEIC with its full bit depth; the library applies its rotation."""
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingExtra("pillow-heif", "heif", f"{path}: a HEIC photo") from error
    image = pillow_heif.open_heif(path.read_bytes(), convert_hdr_to_8bit=False)
    _check_size(path, image.size)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    exif = (image.info.get("exif") or b"").removeprefix(PREFIX) or None
    return _make_photo(pixels, exif, image.info.get("icc_profile"), exif_orientation=1, file=path)


def _decode_raw(path: Path) -> PhotoPicture:
    """Camera raw: the camera's white balance, no auto-brightness, 16 bits with the sRGB function."""
    try:
        import rawpy
    except ImportError as error:
        raise MissingExtra("rawpy", "raw", f"{path}: a camera raw photo") from error
    data = path.read_bytes()
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            _check_size(path, (raw.sizes.width, raw.sizes.height))
            samples = raw.postprocess(gamma=(1, 1), no_auto_bright=True, use_camera_wb=True, output_bps=16)
    except rawpy.LibRawError as error:
        raise ValueError(str(error)) from error
    linear = to_linear_(torch.from_numpy(samples.astype(np.float32) / 65535), LINEAR)
    pixels = (to_encoded(linear, SRGB) * 65535).round_().numpy().astype(np.uint16)
    return PhotoPicture(pixels=pixels, exif=_raw_exif(data), file=path)


def _raw_exif(data: bytes) -> bytes | None:
    """The EXIF of a raw format based on TIFF; None for other formats."""
    tags = parse_tags(data)
    exif = serialize_tags(tags)
    return normalize_orientation(exif, rotated_90=orientation(tags) > 4) if exif else None
