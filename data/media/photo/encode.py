"""Encoding of photos with ICC profile and EXIF."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, TiffTags

from .exif import EXIF, GPS, IFD0_TAGS, PREFIX, parse_tags, suppress_warnings
from .photo import PhotoPicture, Pixels, to_8_bit

Encoder = Callable[[PhotoPicture, int], bytes]


def encode(picture: PhotoPicture, suffix: str, *, quality: int) -> bytes:
    """The bytes of a photo file of the format of `suffix` (lower case)."""
    return ENCODERS[suffix](picture, quality)


def _encode_pillow(
    picture: PhotoPicture, quality: int, *, kind: str, supports_alpha: bool, **options: Any
) -> bytes:
    """Eight bits per sample; `supports_alpha`: the format has an alpha channel."""
    picture = to_8_bit(picture)
    image = Image.fromarray(_interleave_alpha(picture) if supports_alpha else picture.pixels)
    if picture.profile and kind != "BMP":
        options["icc_profile"] = picture.profile
    if picture.exif and kind != "BMP":
        options["exif"] = PREFIX + picture.exif
    out = io.BytesIO()
    image.save(out, kind, quality=quality, **options)
    return out.getvalue()


def _png(picture: PhotoPicture, _quality: int) -> bytes:
    """Eight or sixteen bits; profile and EXIF as chunks after the header (PNG 3rd edition, 11.3)."""
    channels = [2, 1, 0, 3][: 3 + (picture.alpha is not None)]
    _, buffer = cv2.imencode(".png", _interleave_alpha(picture)[..., channels])
    data = buffer.tobytes()
    chunks = b""
    if picture.profile:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.profile))
    if picture.exif:
        chunks += _chunk(b"eXIf", picture.exif)
    head = 8 + 25  # signature and IHDR
    return data[:head] + chunks + data[head:]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _tiff(picture: PhotoPicture, _quality: int) -> bytes:
    """Eight or sixteen bits, one deflated strip (TIFF 6.0, and Adobe's technical note for code 8).

    The directory is rebuilt: maker notes are kept as bytes, but offsets in them may become invalid.
    """
    samples = _interleave_alpha(picture)
    height, width, channels = samples.shape
    strip = zlib.compress(samples.astype(samples.dtype.newbyteorder("<")).tobytes(), 6)
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    _copy_exif_tags(tags, picture.exif)
    tags[256], tags[257] = width, height
    tags[258], tags[339] = (picture.depth,) * channels, (1,) * channels  # bits, unsigned
    tags[259], tags[262], tags[277], tags[278] = 8, 2, channels, height
    tags.tagtype[273] = TiffTags.LONG
    tags[273], tags[279] = 0, len(strip)  # relative to the end of the directory, in Pillow
    if channels == 4:
        tags[338] = 2  # unassociated alpha
    if picture.profile:
        tags[34675] = picture.profile
    with suppress_warnings():
        return struct.pack("<2sHI", b"II", 42, 8) + bytes(tags.tobytes(8)) + strip


def _copy_exif_tags(tags: TiffImagePlugin.ImageFileDirectory_v2, exif: bytes | None) -> None:
    """Copy the EXIF tags that describe the photo into the directory of a TIFF."""
    exif_tags = parse_tags(exif)
    for tag in IFD0_TAGS:
        if tag in (EXIF, GPS):
            if ifd_tags := exif_tags.get_ifd(tag):
                tags[tag] = dict(ifd_tags)
        elif tag in exif_tags:
            tags[tag] = exif_tags[tag]


def _interleave_alpha(picture: PhotoPicture) -> Pixels:
    """[H, W, 3], or [H, W, 4] with alpha."""
    if picture.alpha is None:
        return picture.pixels
    return np.concatenate([picture.pixels, picture.alpha[..., None]], axis=2)


_jpeg: Encoder = partial(_encode_pillow, kind="JPEG", supports_alpha=False, subsampling=0)
_webp: Encoder = partial(_encode_pillow, kind="WEBP", supports_alpha=True, exact=True)
_avif: Encoder = partial(_encode_pillow, kind="AVIF", supports_alpha=True, subsampling="4:4:4")

# Only PNG and TIFF hold more than eight bits per sample.
ENCODERS: dict[str, Encoder] = {
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".png": _png,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".webp": _webp,
    ".avif": _avif,
    ".bmp": partial(_encode_pillow, kind="BMP", supports_alpha=False),
}
