"""A video file of rendered images: fly-throughs and slow motion."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.error_translation import translate_write_errors
from freezeframe.data.media.video_in.stream_info import ffmpeg_url

CRF = "16"  # constant rate factor of x264


def write_video(pictures: Iterable[Tensor], path: Path, *, rate: Fraction) -> Path:
    """Write [3, H, W] linear RGB images as H.264, 4:2:0, tagged BT.709; odd sizes are cropped by one pixel.

    Raises:
        UnwritableOutput: There are no images, or the file cannot be written.
    """
    count = 0
    with translate_write_errors(path), av.open(ffmpeg_url(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": CRF})
        stream.pix_fmt = "yuv420p"
        for count, picture in enumerate(pictures, 1):
            encoded = _encode_rgb24(picture)
            if count == 1:
                stream.height, stream.width = encoded.shape[:2]
                _tag(stream.codec_context)
            frame = av.VideoFrame.from_ndarray(encoded, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        if count:
            container.mux(stream.encode(None))
    if not count:
        raise UnwritableOutput(f"{path}: there are no images to write")
    return path


def _encode_rgb24(picture: Tensor) -> np.ndarray:
    height, width = (side // 2 * 2 for side in picture.shape[1:])
    encoded = to_encoded(picture[:, :height, :width].clamp(0, 1), SRGB)
    return np.ascontiguousarray((encoded * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def _tag(codec: av.VideoCodecContext) -> None:
    """BT.709, limited range: for small untagged videos players assume BT.601."""
    codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range = 1, 1, 1, 1
