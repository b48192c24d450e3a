"""Check that images of a given size fit into memory, before libraries fail in the middle of the work."""

from __future__ import annotations

import torch

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.photo.decode import display_size
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.models.runtime.memory import free_bytes
from freezeframe.pipeline.config import ShotConfig

RUNTIME_BYTES = 4 * 10**8  # bytes of compiled code, threads and weights
PHOTO_BYTES = (
    100  # bytes per pixel of a photo that is restored or merged: linear, encoded, intermediate images
)


def check_window_memory(source: VideoSource | ImageFolderSource, config: ShotConfig) -> None:
    """Check that one window of a clip fits into memory.

    Raises:
        FreezeframeError: It does not.
    """
    size = frame_size(source)
    if size is not None:
        frames = frames_per_window(size, config) + 2 * config.context
        check_memory(source.name, size, bytes_per_pixel=PIXEL_BYTES * frames)


def check_memory(name: str, size: tuple[int, int], *, bytes_per_pixel: float) -> None:
    """Check that images of `size` (height, width) fit into memory.

    Raises:
        FreezeframeError: They do not; the message starts with `name`.
    """
    height, width = size
    required, free = RUNTIME_BYTES + height * width * bytes_per_pixel, free_bytes(torch.device("cpu"))
    if required > free:
        raise FreezeframeError(
            f"{name}: pictures of {width}x{height} take about {required / 1e9:.1f} GB of memory, of which"
            f" {free / 1e9:.1f} GB are free; close other programs, or scale the pictures down first"
        )


def frame_size(source: VideoSource | ImageFolderSource) -> tuple[int, int] | None:
    """Height and width of the frames of a clip; None if only decoding shows them."""
    if isinstance(source, VideoSource):
        return source.info.height, source.info.width
    return display_size(source.images[0])


PIXEL_BYTES = 48  # linear RGB 12, flow and confidence in both directions 24, velocity 8, mask of movers 4


def frames_per_window(size: tuple[int, int], config: ShotConfig) -> int:
    """Frames that a window may write so that its images and motion fit into `config.memory_mb`."""
    height, width = size
    buffer = config.memory_mb * 10**6 // (PIXEL_BYTES * height * width)
    return int(min(config.max_frames, max(2, buffer - 2 * config.context)))
