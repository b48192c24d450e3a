"""Whether pictures of a size fit into memory: asked before the work, as no library says so in time."""

from __future__ import annotations

import torch

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.photo.decode import display_size
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.models.runtime.memory import free_bytes
from freezeframe.pipeline.config import ShotConfig

from .shots import PIXEL_BYTES, frames_per_window

RUNTIME_BYTES = 4 * 10**8  # bytes of compiled code, threads and weights beside the pictures
PHOTO_BYTES = (
    100  # per pixel of a photo that is restored or merged: its light, codes and what is made of them
)


def check_window_memory(source: VideoSource | ImageFolderSource, config: ShotConfig) -> None:
    """Refuse a clip whose frames are so large that not even one window of them fits into memory."""
    size = frame_size(source)
    if size is not None:
        frames = frames_per_window(size, config) + 2 * config.context
        check_memory(source.name, size, bytes_per_pixel=PIXEL_BYTES * frames)


def check_memory(name: str, size: tuple[int, int], *, bytes_per_pixel: float) -> None:
    """Refuse pictures of a size (height, width) that does not fit into memory."""
    height, width = size
    required, free = RUNTIME_BYTES + height * width * bytes_per_pixel, free_bytes(torch.device("cpu"))
    if required > free:
        raise FreezeframeError(
            f"{name}: pictures of {width}x{height} take about {required / 1e9:.1f} GB of memory, of which"
            f" {free / 1e9:.1f} GB are free; close other programs, or scale the pictures down first"
        )


def frame_size(source: VideoSource | ImageFolderSource) -> tuple[int, int] | None:
    """Height and width of a clip's frames; None where only decoding tells."""
    if isinstance(source, VideoSource):
        return source.info.height, source.info.width
    return display_size(source.images[0])
