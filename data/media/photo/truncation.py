"""Whether a JPEG holds all of the picture that it declares: decoders paint what is missing grey, silently."""

from __future__ import annotations

from pathlib import Path

import av
from av.error import InvalidDataError

from freezeframe.data.errors import UnreadableMedia

from .photo import Pixels

MAX_PIXELS_PER_BYTE = 8 * 64  # at most: Huffman's code spends a bit or more on each block of 8 x 8 pixels
ARITHMETIC_MARKERS = (b"\xff\xc9", b"\xff\xca")  # frames of the other code, which may spend less
FILL_VALUE = 128  # what blocks without data decode to, in all channels


def check_data_size(path: Path, size: tuple[int, int], data: bytes) -> None:
    """Stop before a large picture is made of little data; `size` is width and height as declared."""
    width, height = size
    if width * height > MAX_PIXELS_PER_BYTE * len(data) and not any(
        marker in data for marker in ARITHMETIC_MARKERS
    ):
        raise UnreadableMedia(
            f"{path}: declares {width}x{height} pixels, but its {len(data):,} bytes cannot hold them; use"
            " another copy of it, or leave it out"
        )


def check_truncation(path: Path, pixels: Pixels, data: bytes) -> None:
    """Stop where the decoder ran out of data before `pixels`, [H, W, C], were full."""
    # Few whole photos end in just this grey: only for those is a second decoder asked, which does complain.
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
        return False  # a kind of JPEG that it does not know
    return False
