"""A photo that declares more pixels than its file holds is rejected by name, before memory is allocated."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.error_translation import MAX_PIXELS
from freezeframe.data.media.folder.source import open_folder
from freezeframe.data.media.photo.files import read_burst, read_photo

KINDS = {
    "baseline": {},
    "full colour": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 5},
}


def scene(height: int = 160, width: int = 240) -> Image.Image:
    """Squares of random colours."""
    squares = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(squares.repeat(8, 0).repeat(8, 1))


def jpeg(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def declaring(data: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its frame header (ITU-T T.81, B.2.2)."""
    at = next(data.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in data)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def ending_after(data: bytes, fraction: float) -> bytes:
    """The first part of the data, with an end-of-image marker."""
    return data[: int(fraction * len(data))] + b"\xff\xd9"


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_kilobyte_that_declares_144_million_pixels_is_refused_unread(options, tmp_path):
    path = tmp_path / "huge.jpg"
    path.write_bytes(declaring(jpeg(scene(32, 32), **options), 12000, 12000))
    assert path.stat().st_size < 3000
    tracemalloc.start()
    try:
        with pytest.raises(
            UnreadableMedia, match=r"huge\.jpg: declares 12000x12000 pixels, but its .* bytes"
        ):
            read_photo(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6  # bytes, not the 432 MB of the picture
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fraction", [0.25, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["baseline", "full colour", "restarts"])  # progressive: detail goes first
def test_a_jpeg_whose_lower_part_is_missing_is_refused(kind, fraction, tmp_path):
    """The decoder fills it with gray without an error, as the file has an end-of-image marker."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(ending_after(jpeg(scene(), **KINDS[kind]), fraction))
    with pytest.raises(UnreadableMedia, match=r"photo\.jpg: is cut off: the lower part of it is missing"):
        read_photo(path)


@pytest.mark.parametrize("grey", [127, 128, 129])
def test_a_whole_picture_of_the_decoders_own_grey_is_read(grey, tmp_path):
    """The smallest possible JPEG: a few bits per block, and the last pixels are gray."""
    path = tmp_path / "grey.jpg"
    Image.new("RGB", (2048, 2048), (grey, grey, grey)).save(path, optimize=True)
    assert np.abs(read_photo(path).pixels.astype(int) - grey).max() <= 1


def test_folders_and_bursts_name_the_photo_that_is_short(tmp_path):
    for number in range(3):
        data = jpeg(scene())
        (tmp_path / f"{number}.jpg").write_bytes(ending_after(data, 0.5) if number == 2 else data)
    with pytest.raises(UnreadableMedia, match=r"2\.jpg: is cut off"):
        list(open_folder(tmp_path).frames())
    with pytest.raises(UnreadableMedia, match=r"2\.jpg: is cut off"):
        read_burst(sorted(tmp_path.iterdir()))


def test_more_pixels_than_any_camera_has_are_refused_whatever_the_library(tmp_path):
    side = int(MAX_PIXELS**0.5) + 1
    png = tmp_path / "large.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = struct.pack(">I", len(header) - 4), header, struct.pack(">I", zlib.crc32(header))
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + struct.pack(">I", 8) + b"IDAT" + bytes(12))
    with pytest.raises(
        UnreadableMedia, match=r"large\.png: declares more than 179 million pixels; crop or scale"
    ):
        read_photo(png)
    pillow_heif = pytest.importorskip("pillow_heif")
    heic = tmp_path / "large.heic"
    pillow_heif.from_pillow(scene(64, 64)).save(heic)
    data = heic.read_bytes()
    at = data.index(b"ispe") + 8  # ISO 23008-12, 6.5.3: width and height of the picture
    heic.write_bytes(data[:at] + struct.pack(">II", 20000, 20000) + data[at + 8 :])
    with pytest.raises(UnreadableMedia, match=r"large\.heic"):
        read_photo(heic)
