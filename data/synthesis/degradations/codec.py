"""Round trips through lossy codecs."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.srgb import SrgbImage


def h264(frames: Sequence[SrgbImage], *, crf: int) -> list[SrgbImage]:
    """`frames` encoded as H.264 (4:2:0) with constant rate factor `crf`, and decoded."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        # With macroblock tree rate control, x264 is not deterministic.
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def jpeg(image: SrgbImage, quality: int) -> SrgbImage:
    """`image` encoded as JPEG (4:2:0) and decoded."""
    _, jpeg_bytes = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(jpeg_bytes, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def compress_jpeg(encoded: Tensor, *, quality: int) -> Tensor:
    """`jpeg` of [3, H, W] sRGB in [0, 1]. Takes no gradient."""
    srgb = np.ascontiguousarray((encoded * 255).round().byte().permute(1, 2, 0).numpy())
    decoded = np.ascontiguousarray(jpeg(srgb, quality))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255
