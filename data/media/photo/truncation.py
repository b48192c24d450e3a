"""Detection of truncated JPEGs: decoders fill the missing part with gray, without an error."""

from __future__ import annotations

from pathlib import Path

import av
from av.error import InvalidDataError

from freezeframe.data.errors import UnreadableMedia

from .photo import Pixels

MAX_PIXELS_PER_BYTE = 8 * 64  # maximum: Huffman coding takes at least one bit per block of 8 x 8 pixels
ARITHMETIC_MARKERS = (b"\xff\xc9", b"\xff\xca")  # arithmetic coding, which can take less
FILL_VALUE = 128  # decoded value of blocks without data, in all channels


def check_data_size(path: Path, size: tuple[int, int], data: bytes) -> None:
    """Raise if the declared `size` (width, height) needs more data than the file has.

    Raises:
        UnreadableMedia: The data cannot hold the declared pixels.
    """
    width, height = size
    if width * height > MAX_PIXELS_PER_BYTE * len(data) and not any(
        marker in data for marker in ARITHMETIC_MARKERS
    ):
        raise UnreadableMedia(
            f"{path}: declares {width}x{height} pixels, but its {len(data):,} bytes cannot hold them; use"
            " another copy of it, or leave it out"
        )


def check_truncation(path: Path, pixels: Pixels, data: bytes) -> None:
    """Raise if the data ended before all of `pixels`, [H, W, C], was decoded."""
    # Few complete photos end in exactly this gray: only those are decoded again, by a stricter decoder.
    if (pixels[-1, -1, :3] == FILL_VALUE).all() and _is_truncated(data):
        raise UnreadableMedia(
            f"{path}: is cut off: the lower part of it is missing; use another copy of it, or leave it out"
        )


def _is_truncated(data: bytes) -> bool:
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    try:
        decoder.decode(av.Packet(data))
    except InvalidDataError:
        return True
    except av.FFmpegError:
        return False  # a JPEG variant that FFmpeg does not support
    return False
