"""Whether pictures of a size fit into memory: asked before the work, as no library says so in time."""

from __future__ import annotations

import torch

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.photo.decode import upright_size
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.models.runtime.memory import free_bytes
from freezeframe.pipeline.config import ShotConfig

from .shots import PIXEL_BYTES, frames_per_window

RUNTIME = 4 * 10**8  # bytes of compiled code, threads and weights beside the pictures
PHOTO_BYTES = (
    100  # per pixel of a photo that is restored or merged: its light, codes and what is made of them
)


def require_window(source: VideoSource | ImageFolderSource, config: ShotConfig) -> None:
    """Refuse a clip whose frames are so large that not even one window of them fits into memory."""
    size = size_of(source)
    if size is not None:
        frames = frames_per_window(size, config) + 2 * config.context
        require(source.name, size, bytes_per_pixel=PIXEL_BYTES * frames)


def require(name: str, size: tuple[int, int], *, bytes_per_pixel: float) -> None:
    """Refuse pictures of a size (height, width) that does not fit into memory."""
    height, width = size
    needed, free = RUNTIME + height * width * bytes_per_pixel, free_bytes(torch.device("cpu"))
    if needed > free:
        raise FreezeframeError(
            f"{name}: pictures of {width}x{height} take about {needed / 1e9:.1f} GB of memory, of which"
            f" {free / 1e9:.1f} GB are free; close other programs, or scale the pictures down first"
        )


def size_of(source: VideoSource | ImageFolderSource) -> tuple[int, int] | None:
    """Height and width of a clip's frames; None where only decoding tells."""
    if isinstance(source, VideoSource):
        return source.info.height, source.info.width
    return upright_size(source.images[0])
